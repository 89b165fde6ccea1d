"""The gate: tries a deployment on a real account, from its first resource to its last.

``python -m faaskeeper.testing.smoke aws CONFIG`` (or ``gcp``) deploys CONFIG under a name of its own,
runs the suites of :mod:`faaskeeper.testing.conformance` with a client's rights, tries what a client
must not be able to do, measures, removes everything, and writes a report. It needs
``pip install 'faaskeeper[aws,testing]'`` (or ``gcp``); in a clone ``make smoke-aws`` installs that.
It is part of the package, not of the project's tests, because whoever installs the package has the
suites, the templates and an account, and needs no clone to try them together.

``gate`` has the steps and what happens when one fails or is interrupted; ``stage`` says what they
need of a cloud, ``aws`` and ``gcp`` do that. ``report`` is what it leaves, ``bill`` compares that
with what the cloud charges.
"""
