"""A server for ZooKeeper's wire protocol in front of a deployment, for unchanged ZooKeeper clients.

From the bottom up; a module imports only those that come before it:

* ``jute``, ``protocol``: records, requests and replies as bytes
* ``output``, ``frames``: frames of a connection
* ``sessions``: a session that is served here
* ``runner``, ``watches``, ``receiver``, ``sender``, ``lease``: the ways to the service, which
  ``hub`` assembles
* ``registry``: opens, resumes and releases sessions
* ``metrics``, ``admin``: for operators
* ``reads``, ``identity``, ``pipeline``: the requests of a connection, in their order
* ``connection``: one client's connection
* ``server``: the process

``docs/architecture/gateway.md`` explains why this is correct.
"""
