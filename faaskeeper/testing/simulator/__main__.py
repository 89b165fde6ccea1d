"""Runs :func:`faaskeeper.testing.simulator.command.main`."""

import sys

from faaskeeper.testing.simulator.command import main

if __name__ == "__main__":
    sys.exit(main())
