#!/usr/bin/env python3
"""``./fk.py`` is ``fk``, from a checkout."""

from faaskeeper.cli import main

if __name__ == "__main__":
    main()
