"""The engine of a session, without sockets, threads or event loops: its shells add those.

Steps (generators) yield the commands of :mod:`faaskeeper.session.commands`. A shell performs them,
in threads or in an event loop, with the one :class:`~faaskeeper.session.interpreter.Interpreter`.
"""
