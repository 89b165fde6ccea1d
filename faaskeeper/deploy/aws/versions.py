"""Versions of the functions: which ones an earlier update left.

Each function runs by an alias. The template's parameters ``Pinned...`` point it to a version; without
them it points to the newest.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.aws.clients import Aws
from faaskeeper.providers.cloud.service import FUNCTIONS

ALIAS = "live"
PINS = {short: f"Pinned{short.capitalize()}" for short in FUNCTIONS}
"""The parameter of each function."""


def earlier(aws: Aws, deployment: str, present: Collection[str]) -> dict[str, str]:
    """The version of each function with the code from before the last update, by its parameter.

    ``present``: names of the functions that exist. Raises ProviderException if there is none.
    """
    client = aws.client("lambda")
    found: dict[str, str] = {}
    for short, parameter in PINS.items():
        name = f"{deployment}-{short}"
        if name not in present:
            continue
        alias = aws.call(f"function {name}", client.get_alias, FunctionName=name, Name=ALIAS)
        live = int(alias["FunctionVersion"])
        code = _versions(aws, name)
        before = [number for number in code if number < live and code[number] != code.get(live)]
        if not before:
            raise ProviderException(f"{name} has no version with earlier code than its version {live}")
        found[parameter] = str(max(before))
    return found


def _versions(aws: Aws, function: str) -> dict[int, str]:
    """The digest of the code of each published version."""
    client = aws.client("lambda")
    found: dict[int, str] = {}
    marker: dict[str, str] = {}
    while True:
        page: dict[str, Any] = aws.call(
            f"function {function}", client.list_versions_by_function, FunctionName=function, **marker
        )
        for each in page["Versions"]:
            if each["Version"].isdigit():
                found[int(each["Version"])] = each["CodeSha256"]
        if not page.get("NextMarker"):
            return found
        marker = {"Marker": page["NextMarker"]}
