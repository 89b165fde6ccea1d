"""The recipes' rules, written once for threads and for tasks.

A rule is a coroutine over a :class:`~faaskeeper.recipes.rules.port.Port`: a client's operations and
a way to wait. In an event loop it runs as a coroutine. For threads, every operation of the port
blocks, so the coroutine ends at its first step: :func:`faaskeeper.recipes.threads.run`.

An interrupt of a waiting caller (KeyboardInterrupt in a thread, CancelledError in a task) is raised
inside the rule, at the place where it waits, so the same code cleans up after both.
"""
