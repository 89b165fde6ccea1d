"""The ``fk`` command: an interactive shell, and the same commands one at a time."""

from __future__ import annotations


def main() -> None:
    """Entry point of ``fk``."""
    import gc

    gc.disable()  # what is imported here stays
    from faaskeeper.cli.main import main as run

    gc.freeze()
    gc.enable()
    try:
        run()
    finally:
        gc.freeze()  # the interpreter would go through all objects once more before it ends


__all__ = ["main"]
