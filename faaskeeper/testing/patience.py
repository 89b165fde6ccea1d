"""The time-out by which tests wait for progress."""

PATIENCE_S = 300.0
"""Only a hang takes longer: a machine with a load of 20 does not.

It is not for time-outs that are under test, nor for sessions that are to end.
"""
