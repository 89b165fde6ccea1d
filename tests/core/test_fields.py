"""Fields: what is given, what is the default, and what is refused."""

from __future__ import annotations

import pytest

from faaskeeper.core.fields import Fields


def double(number: int) -> int:
    return 2 * number


class Pair(Fields):
    one: int
    two: int = 2
    act = staticmethod(double)
    made = 0

    def __post_init__(self) -> None:
        self.made = self.one + self.two


class Acting(Fields):
    act: object = double


def test_fields_are_given_in_order_or_by_name_and_have_defaults() -> None:
    assert (Pair(1).one, Pair(1).two, Pair(1, two=3).two, Pair(two=4, one=5).made) == (1, 2, 3, 9)


def test_a_function_that_is_a_default_stays_a_function() -> None:
    assert Acting().act is double


def test_a_replaced_one_is_another_that_is_made_anew() -> None:
    before = Pair(1)
    after = before.replaced(one=8)
    assert (before.made, after.one, after.two, after.made) == (3, 8, 2, 10)


@pytest.mark.parametrize(
    ("values", "named"), [((), {}), ((1, 2, 3), {}), ((1,), {"one": 2}), ((1,), {"three": 3})]
)
def test_fields_that_do_not_fit_are_refused(values: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError):
        Pair(*values, **named)
