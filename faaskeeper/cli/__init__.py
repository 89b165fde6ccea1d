"""The ``fk`` command: an interactive shell, and the same commands one at a time."""

from __future__ import annotations


def main() -> None:
    """Entry point of ``fk``."""
    from faaskeeper.cli.main import main as run

    run()


__all__ = ["main"]
