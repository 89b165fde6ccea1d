"""Deploying to a cloud and operating what is deployed: what ``fk deploy``, ``doctor``, ``deadletters`` and
``cost`` call.

It depends on no command line: it returns values, raises the exceptions of :mod:`faaskeeper.exceptions` and of
:mod:`faaskeeper.core.errors`, and reports progress through a callback.
"""
