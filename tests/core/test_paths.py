from __future__ import annotations

import pytest

from faaskeeper.core import paths


@pytest.mark.parametrize("path", ["/", "/a", "/a/b", "/.hidden", "/ok...", "/a b", "/é中", "/zookeeper"])
def test_paths_that_zookeeper_takes_are_valid(path: str) -> None:
    assert paths.invalid(path) is None


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "empty"),
        ("a", "begin with"),
        ("/a/", "end with"),
        ("/a//b", "empty component"),
        ("/a/./b", "'.'"),
        ("/..", "'..'"),
        ("/a\0b", "U+0000"),
        ("/a\x7f", "U+007F"),
        ("/a\ud800", "U+D800"),
        ("/a\ufff0", "U+FFF0"),
        ("/a\U0001f600", "U+1F600"),
        ("/" + "x" * paths.MAX_PATH_BYTES, "longer"),
        ("/" + "é" * (paths.MAX_PATH_BYTES // 2), "longer"),
    ],
)
def test_a_path_that_zookeeper_refuses_is_refused_with_the_reason(path: str, why: str) -> None:
    reason = paths.invalid(path)
    assert reason is not None
    assert why in reason


def test_parents_and_children_are_each_other_s_inverse() -> None:
    for path in ("/a", "/a/b", "/a/b/c"):
        assert paths.child(paths.parent(path), paths.name(path)) == path
