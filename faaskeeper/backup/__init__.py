"""Backups of a deployment: taking them, their files, and restoring them.

``docs/decisions/0039-restore-above-every-txid.md`` has the argument. Only core is used here; what a
provider adds is in :mod:`faaskeeper.backup.driver`.
"""
