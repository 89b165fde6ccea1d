"""BLAKE2b without OpenSSL, which :mod:`hashlib` loads for its other functions in some 3 ms."""

from __future__ import annotations

try:
    from _blake2 import blake2b
except ImportError:  # a Python that is built in another way
    from hashlib import blake2b

__all__ = ["blake2b"]
