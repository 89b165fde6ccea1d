"""Templates with their parameters filled in, as CloudFormation does it: names, ARNs and policies as text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cfnlint.decode.cfn_yaml

DIRECTORY = Path(__file__).parent.parent.parent / "deploy" / "aws"
_ABSENT = object()
_PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::AccountId": "123456789012",
    "AWS::Region": "eu-central-1",
    "AWS::StackName": "fk",
    "AWS::NoValue": _ABSENT,
}
_NAMES = {
    "AWS::CloudWatch::Alarm": ("AlarmName", "cloudwatch:{region}:{account}:alarm:{name}"),
    "AWS::CloudWatch::Dashboard": ("DashboardName", "cloudwatch::{account}:dashboard/{name}"),
    "AWS::DynamoDB::Table": ("TableName", "dynamodb:{region}:{account}:table/{name}"),
    "AWS::IAM::ManagedPolicy": ("ManagedPolicyName", "iam::{account}:policy/{name}"),
    "AWS::IAM::Role": ("RoleName", "iam::{account}:role/{name}"),
    "AWS::Lambda::Function": ("FunctionName", "lambda:{region}:{account}:function:{name}"),
    "AWS::Logs::LogGroup": ("LogGroupName", "logs:{region}:{account}:log-group:{name}:*"),
    "AWS::S3::Bucket": ("BucketName", "s3:::{name}"),
    "AWS::SQS::Queue": ("QueueName", "sqs:{region}:{account}:{name}"),
    "AWS::Scheduler::Schedule": ("Name", "scheduler:{region}:{account}:schedule/default/{name}"),
}
"""By type, the property with a resource's name, and its ARN behind the partition."""


def decoded(name: str) -> dict[str, Any]:
    """A template as it is written."""
    return dict(json.loads(json.dumps(cfnlint.decode.cfn_yaml.load(str(DIRECTORY / name)))))


class Filled:
    """A template with parameters. ``pseudo``: replaces AWS's own parameters."""

    def __init__(self, template: str, parameters: Mapping[str, str] | None = None, **pseudo: str) -> None:
        data = decoded(template)
        defaults = {name: each.get("Default", name) for name, each in data["Parameters"].items()}
        lists = {name for name, each in data["Parameters"].items() if "List" in each["Type"]}
        chosen = {**defaults, **(parameters or {})}
        self._values: dict[str, Any] = {
            **_PSEUDO,
            **{name: str(each).split(",") if name in lists else str(each) for name, each in chosen.items()},
            **{f"AWS::{name}": each for name, each in pseudo.items()},
        }
        self._conditions: dict[str, Any] = data.get("Conditions", {})
        self._written: dict[str, Any] = data["Resources"]
        self.resources: dict[str, dict[str, Any]] = {
            name: {**each, "Properties": self.value(each["Properties"])}
            for name, each in self._written.items()
            if "Condition" not in each or self._holds(each["Condition"])
        }
        """The resources that there are, with their properties."""
        self.outputs: dict[str, Any] = {
            name: self.value(each["Value"])
            for name, each in data["Outputs"].items()
            if "Condition" not in each or self._holds(each["Condition"])
        }

    def of_type(self, kind: str) -> dict[str, Any]:
        """The properties of the resources of a type."""
        return {name: each["Properties"] for name, each in self.resources.items() if each["Type"] == kind}

    def arn(self, name: str) -> str:
        """The ARN of a resource; for a log group, of what is in it."""
        each = self._written[name]
        if each["Type"] == "AWS::Lambda::Alias":
            return f"{self.value(each['Properties']['FunctionName'], arns=True)}:live"
        key, rest = _NAMES[each["Type"]]
        called = self.value(each["Properties"][key])
        filled = rest.format(
            name=called, region=self._values["AWS::Region"], account=self._values["AWS::AccountId"]
        )
        return f"arn:{self._values['AWS::Partition']}:{filled}"

    # ---- functions -----------------------------------------------------------------------

    def value(self, node: Any, arns: bool = False) -> Any:
        """A value with its functions evaluated. ``arns``: references are ARNs, not names."""
        if isinstance(node, list):
            return [made for each in node if (made := self.value(each)) is not _ABSENT]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((function, given),) = node.items()
            if function == "Ref":
                return self._ref(given, arns)
            if function == "Fn::GetAtt":
                return self._attribute(*(given if isinstance(given, list) else given.split(".", 1)))
            if function == "Fn::If":
                return self.value(given[1] if self._holds(given[0]) else given[2])
            if function == "Fn::Join":
                return given[0].join(self.value(given[1]))
            if function == "Fn::Sub":
                text, more = given if isinstance(given, list) else (given, {})
                known = {name: self.value(each) for name, each in more.items()}
                return re.sub(r"\$\{([^}]+)\}", lambda found: self._named(found[1], known), text)
            assert not function.startswith("Fn::"), function
        return {name: made for name, each in node.items() if (made := self.value(each)) is not _ABSENT}

    def _holds(self, condition: Any) -> bool:
        if isinstance(condition, str):
            return self._holds(self._conditions[condition])
        ((function, given),) = condition.items()
        if function == "Condition":
            return self._holds(given)
        if function == "Fn::Not":
            return not self._holds(given[0])
        if function == "Fn::And":
            return all(self._holds(each) for each in given)
        if function == "Fn::Or":
            return any(self._holds(each) for each in given)
        assert function == "Fn::Equals", function
        return str(self.value(given[0])) == str(self.value(given[1]))

    def _ref(self, name: str, arns: bool = False) -> Any:
        if name in self._values:
            return self._values[name]
        kind = self._written[name]["Type"]
        if kind in ("AWS::IAM::ManagedPolicy", "AWS::Lambda::Alias") or arns:
            return self.arn(name)
        if kind == "AWS::Lambda::Version":
            return f"{name}:1"
        if kind == "AWS::SQS::Queue":
            return f"https://sqs/{self._attribute(name, 'QueueName')}"
        return self.value(self._written[name]["Properties"][_NAMES[kind][0]])

    def _attribute(self, name: str, attribute: str) -> str:
        if attribute == "Arn":
            return self.arn(name)
        if attribute == "StreamArn":
            return f"{self.arn(name)}/stream/2026-01-01T00:00:00.000"
        if attribute == "Version":
            return "1"
        assert attribute == "QueueName", attribute
        return str(self.value(self._written[name]["Properties"]["QueueName"]))

    def _named(self, name: str, known: Mapping[str, Any]) -> str:
        if name in known:
            return str(known[name])
        return str(self._attribute(*name.split(".", 1)) if "." in name else self._ref(name))


def flat(value: Any) -> Iterator[Any]:
    """Every dictionary and text in a value, whatever conditions stand around it."""
    yield value
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from flat(each)


def statements(value: Any) -> list[dict[str, Any]]:
    """The statements of the policies in a value."""
    return [each for each in flat(value) if isinstance(each, dict) and "Effect" in each]


def listed(value: Any) -> list[Any]:
    """A value that may stand alone or in a list, as a list."""
    return value if isinstance(value, list) else [value]


def allows(rights: list[dict[str, Any]], action: str, resource: str) -> bool:
    """Whether statements allow an action on a resource, whatever their conditions."""
    return any(
        each["Effect"] == "Allow"
        and any(_matches(action, one) for one in listed(each["Action"]))
        and any(_matches(resource, one) for one in listed(each["Resource"]))
        for each in rights
    )


def _matches(text: str, pattern: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None
