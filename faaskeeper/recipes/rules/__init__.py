"""The recipes' rules, written once for threads and for tasks.

A rule is a coroutine over a :class:`~faaskeeper.recipes.rules.port.Port`: a client's operations and
a way to wait. In an event loop it runs as what it is. For threads every operation of the port
blocks, so that the coroutine ends at its first step: :func:`faaskeeper.recipes.threads.run`.

What interrupts a caller where it waits (KeyboardInterrupt in a thread, CancelledError in a task) is
raised inside the rule at that place, so that both are undone by the same lines.
"""
