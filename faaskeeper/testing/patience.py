"""How long tests wait for what must happen."""

PATIENCE_S = 300.0
"""A bound on progress, which only a hang misses: a machine with a load of 20 keeps it.

Time-outs that are under test are not this, nor is the time-out of a session that is to end.
"""
