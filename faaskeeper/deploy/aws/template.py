"""The template, read on this machine: what it creates, its parameters, and the rights that takes.

CloudFormation evaluates the template that is applied. This module evaluates only as much as can be said
without an account: which resources a set of parameters has, and the names of those that outlive a stack.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import yaml

from faaskeeper.deploy.templates import templates

_NAMES = {
    "AWS::DynamoDB::Table": "TableName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::SQS::Queue": "QueueName",
}
"""The property that names a resource, by the types that may outlive a stack."""
_SHORT = ("Ref", "Condition")
"""Functions whose long form has no prefix."""


class Resource(NamedTuple):
    """A resource: its type and its name in the template."""

    kind: str
    logical: str


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads CloudFormation's short forms of functions (``!Ref``) as the long ones."""


def _function(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in _SHORT else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _function)


def release(parameters: Mapping[str, str]) -> str:
    """A digest of parameters and template: functions take changes of either with a new release only."""
    listed = json.dumps(dict(parameters), sort_keys=True)
    return hashlib.sha256(f"{listed}\n{text()}".encode()).hexdigest()[:16]


def text() -> str:
    """The template's text."""
    return templates("aws").joinpath("template.yaml").read_text(encoding="utf-8")


class Template:
    """A template. ``source``: its text."""

    def __init__(self, source: str) -> None:
        data: dict[str, Any] = yaml.load(source, Loader=_Loader)
        self._conditions: dict[str, Any] = data.get("Conditions", {})
        self._resources: dict[str, Any] = data["Resources"]
        self.parameters: dict[str, Any] = data.get("Parameters", {})
        """The definition of each parameter by its name."""

    def resources(self, chosen: Mapping[str, str]) -> list[Resource]:
        """The resources that exist with these parameters; others have their default."""
        defaults = {name: each.get("Default", "") for name, each in self.parameters.items()}
        values = {**{name: _text(each) for name, each in defaults.items()}, **chosen}
        return sorted(
            Resource(each["Type"], name)
            for name, each in self._resources.items()
            if "Condition" not in each or self._holds({"Condition": each["Condition"]}, values)
        )

    def _holds(self, test: Mapping[str, Any], values: Mapping[str, str]) -> bool:
        ((function, given),) = test.items()
        if function == "Condition":
            return self._holds(self._conditions[given], values)
        if function == "Fn::Not":
            return not self._holds(given[0], values)
        if function == "Fn::And":
            return all(self._holds(each, values) for each in given)
        if function == "Fn::Or":
            return any(self._holds(each, values) for each in given)
        if function == "Fn::Equals":
            return _value(given[0], values) == _value(given[1], values)
        raise ValueError(f"{function} is not a condition")

    def lasting(self, pseudo: Mapping[str, str]) -> list[tuple[Resource, str]]:
        """Resources with data that may outlive the stack, with their names, whichever parameters it had.

        ``pseudo``: values of CloudFormation's own parameters (``AWS::StackName`` ...).
        """
        found = []
        for logical, each in self._resources.items():
            name = each.get("Properties", {}).get(_NAMES.get(each["Type"], ""))
            for one in _names(name, pseudo):
                found.append((Resource(each["Type"], logical), one))
        return sorted(found)


def _text(value: Any) -> str:
    return str(value) if not isinstance(value, bool) else str(value).lower()


def _value(node: Any, values: Mapping[str, str]) -> str:
    if not isinstance(node, Mapping):
        return _text(node)
    ((function, given),) = node.items()
    if function == "Ref":
        return values[given]
    if function == "Fn::Join":
        parts = given[1] if isinstance(given[1], list) else [given[1]]
        return str(given[0]).join(_value(each, values) for each in parts)
    if function == "Fn::Select":
        return _value(given[1], values).split(",")[int(given[0])]
    raise ValueError(f"{function} has no value here")


def _names(node: Any, pseudo: Mapping[str, str]) -> Iterator[str]:
    """The names that a property may have, one for each branch of its conditions."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        ((function, given),) = node.items()
        if function == "Fn::Sub" and isinstance(given, str):
            yield re.sub(r"\$\{([^}]+)\}", lambda each: pseudo[each[1]], given)
        elif function == "Fn::If":
            for branch in given[1:]:
                yield from _names(branch, pseudo)


@cache
def template() -> Template:
    """The template of this version."""
    return Template(text())


def rights() -> dict[str, list[str]]:
    """The actions that the deployer's policies allow, by service."""
    source = templates("aws").joinpath("deployer.yaml").read_text(encoding="utf-8")
    policies = yaml.load(source, Loader=_Loader)["Resources"]
    found: dict[str, set[str]] = {}
    for statement in _statements([each for name, each in policies.items() if name.startswith("Deployer")]):
        actions = statement["Action"]
        for action in actions if isinstance(actions, list) else [actions]:
            service, _, verb = action.partition(":")
            found.setdefault(service, set()).add(verb)
    return {service: sorted(found[service]) for service in sorted(found)}


def _statements(node: Any) -> Iterator[Mapping[str, Any]]:
    """The statements that allow something, wherever they stand."""
    if isinstance(node, Mapping):
        if node.get("Effect") == "Allow" and "Action" in node:
            yield node
        for each in node.values():
            yield from _statements(each)
    elif isinstance(node, list):
        for each in node:
            yield from _statements(each)
