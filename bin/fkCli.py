#!/usr/bin/env python3
"""``bin/fkCli.py CONFIG``: the shell on a deployment, as users of the published system start it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from faaskeeper.cli.main import run_file

if __name__ == "__main__":
    run_file()
