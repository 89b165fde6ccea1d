"""Classes that hold a few fields, as dataclasses do, for what every process imports.

To import :mod:`dataclasses`, and to make a class with it, takes ten times as long: it compiles code.
"""

from __future__ import annotations

from typing import Any, Self, dataclass_transform


@dataclass_transform()
class Fields:
    """Takes what its class annotates, in that order or by name; what the class gives is the default, and
    shared by all. ``__post_init__`` is called at last.
    """

    def __init__(self, *values: Any, **named: Any) -> None:
        names = tuple(type(self).__annotations__)
        given = dict(zip(names, values, strict=False), **named)
        if len(given) != len(values) + len(named) or not given.keys() <= set(names):
            raise TypeError(f"{type(self).__name__} has the fields {', '.join(names)}, not {values}, {named}")
        for name in names:
            # Into the instance: a function that is looked up in the class would be a method.
            if name in given:
                self.__dict__[name] = given[name]
            elif name in type(self).__dict__:
                self.__dict__[name] = type(self).__dict__[name]
            else:
                raise TypeError(f"{type(self).__name__} lacks the field {name}")
        self.__post_init__()

    def __post_init__(self) -> None:
        """What is made of the fields."""

    def replaced(self, **fields: Any) -> Self:
        """The same with other values of some fields."""
        return type(self)(**{**{name: self.__dict__[name] for name in type(self).__annotations__}, **fields})
