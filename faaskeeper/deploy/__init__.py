"""Deploying to a cloud and operating deployments: the library behind ``fk deploy``, ``fk doctor``,
``fk deadletters`` and ``fk cost``.

It does not depend on the command line. It returns values, raises the exceptions of
:mod:`faaskeeper.exceptions` and :mod:`faaskeeper.core.errors`, and reports progress through a
callback.
"""
