"""Parts of clouds on one machine, for tests of a deployment with real processes.

``lambdas``: AWS Lambda, its event sources, and functions that die. ``targets``: Cloud Functions,
and deliveries that come late, twice or are reported as failed. ``faults``: calls to AWS that fail
or take long. ``processes``: servers that end with the process that started them.
"""
