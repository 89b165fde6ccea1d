"""The simulator: the real functions and clients under one seeded scheduler, with faults.

``command`` runs histories. A history (``histories``) has a ``plan``, and a ``director`` that starts
its programs (``app``), a ``fleet`` of servers and a ``hostile`` client, and brings it to rest. They
use a ``world``: a deployment on simulated drivers (``storage``, ``queues``, ``channels``), which
call the ``environment`` for faults and the ``ledger`` for checks. ``model``, ``client_view``,
``vault`` and ``bounds`` say what is right.
"""
