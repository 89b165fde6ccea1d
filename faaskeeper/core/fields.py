"""Base of classes with fields, like dataclasses, for modules that every process imports.

Importing :mod:`dataclasses`, and making a class with it, takes ten times as long, because it
compiles code.
"""

from __future__ import annotations

from typing import Any, Self, dataclass_transform


@dataclass_transform()
class Fields:
    """Takes the annotated fields of its class, in that order or by name.

    A value in the class body is the default, shared by all instances. ``__post_init__`` is called
    last.
    """

    def __init__(self, *values: Any, **named: Any) -> None:
        names = tuple(type(self).__annotations__)
        given = dict(zip(names, values, strict=False), **named)
        if len(given) != len(values) + len(named) or not given.keys() <= set(names):
            raise TypeError(f"{type(self).__name__} takes fields {', '.join(names)}, not {values}, {named}")
        for name in names:
            # Into the instance: a function found in the class would become a method.
            if name in given:
                self.__dict__[name] = given[name]
            elif name in type(self).__dict__:
                self.__dict__[name] = type(self).__dict__[name]
            else:
                raise TypeError(f"{type(self).__name__} lacks the field {name}")
        self.__post_init__()

    def __post_init__(self) -> None:
        """Set what depends on the fields."""

    def replaced(self, **fields: Any) -> Self:
        """A copy with other values of some fields."""
        return type(self)(**{**{name: self.__dict__[name] for name in type(self).__annotations__}, **fields})
