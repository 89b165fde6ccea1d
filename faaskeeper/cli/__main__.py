"""``python -m faaskeeper.cli``."""

from faaskeeper.cli import main

main()
