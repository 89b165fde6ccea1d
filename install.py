"""Sets up ``.venv``, as ``make setup`` does: for whoever knows the published ``install.py --venv``."""

raise SystemExit(__import__("subprocess").call(["make", "setup"]))
