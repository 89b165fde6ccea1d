"""Functions whose processes die after some seconds, wherever they are in their work.

``python -m faaskeeper.testing.smoke.mortal OUT LEAST MOST`` lets the functions of a deployment run
such code. No cloud kills a process on request. So this code is that of this version with another
module in front, which ends the process: in the middle of a call, because a cloud stops processes
between calls, and their clocks go on. Heartbeat lives.
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from contextlib import closing
from functools import partial

from faaskeeper.config import Config
from faaskeeper.deploy.package import Package
from faaskeeper.deploy.providers import deployment_of, translated_errors

LAST = "this process ends now on purpose"
"""What a process says before it dies: so that its deaths can be counted."""
_LIVING = "living"
_FRONT = '''"""Ends this process after some seconds, unless it is heartbeat's."""

import os
import random
import sys
import threading

from faaskeeper.providers.{cloud}.living import *

_NAME = os.environ.get("AWS_LAMBDA_FUNCTION_NAME") or os.environ.get("K_SERVICE") or ""


def _die():
    print("{last}", file=sys.stderr, flush=True)
    os._exit(1)


if _NAME.rsplit("-", 1)[-1] in ("writer", "distributor", "watch"):
    _timer = threading.Timer(random.uniform({least}, {most}), _die)
    _timer.daemon = True
    _timer.start()
'''


def mortal(code: Package, cloud: str, least: float, most: float) -> Package:
    """The archive, whose processes live for so many seconds."""
    front = _FRONT.format(cloud=cloud, least=least, most=most, last=LAST).encode()
    module = f"faaskeeper/providers/{cloud}/functions.py"

    def make() -> bytes:
        made = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(code.body)) as source,
            zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as target,
        ):
            for each in source.infolist():
                body = source.read(each)
                if each.filename == module:
                    moved = zipfile.ZipInfo(module.replace("functions", _LIVING), each.date_time)
                    moved.external_attr, moved.compress_type = each.external_attr, each.compress_type
                    target.writestr(moved, body)
                    body = front
                target.writestr(each, body)
        return made.getvalue()

    digest = hashlib.sha256(code.key.encode() + front).hexdigest()[:16]
    return Package(f"functions-{digest}.zip", make)


def main(out: str, least: str, most: str) -> None:
    """Deploy it."""
    config = Config.load(out)
    changed = partial(mortal, cloud=config.provider_name, least=float(least), most=float(most))
    with translated_errors(), closing(deployment_of(config)) as deployment:
        deployment.update_code(lambda line: print(line, flush=True), changed)


if __name__ == "__main__":
    main(*sys.argv[1:])
