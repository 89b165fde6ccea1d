"""Tests and tools for authors of providers. They need ``pip install 'faaskeeper[testing]'``.

``conformance``: suites that a provider must pass. ``simulator``: the protocol under faults, in
virtual time. ``emulation``: parts of clouds on one machine.
"""
