"""The gate's command, with a client's calls checked against the rights that the templates grant it."""

from __future__ import annotations

import sys

from faaskeeper.providers.gcp.clients import Gcp
from faaskeeper.testing.smoke.__main__ import main
from faaskeeper.testing.smoke.gcp import GcpStage
from tests.gcp import rights, weak


def client_of(stage: GcpStage, project: str, who: str) -> Gcp:
    """Calls with the rights of an account of clients, and no others."""
    made = Gcp(project)
    weak.weaken(made)
    rights.Rights(who, stage.name, f"{stage.name}-data-{project}").attach(made)
    return made


if __name__ == "__main__":
    GcpStage.client_of = client_of  # type: ignore[method-assign]
    sys.exit(main())
