"""The deployer's policies: what CloudFormation's handlers and fk call, by name, within a boundary."""

from __future__ import annotations

import json
import re
from itertools import product
from typing import Any

import pytest

from tests.aws import handlers
from tests.aws.templates import Filled, allows, flat, listed, statements

KEY = "arn:aws:kms:eu-central-1:123456789012:key/1234"
POLICY_CHARACTERS = 6144
ROLE_CHARACTERS = 10_240
"""IAM's quotas: of a managed policy, and of all inline policies of a role, without white space."""

OF_FK = {
    *("cloudformation:CreateChangeSet", "cloudformation:DescribeChangeSet"),
    *("cloudformation:ExecuteChangeSet", "cloudformation:DeleteChangeSet", "cloudformation:DescribeStacks"),
    *("cloudformation:DescribeStackEvents", "cloudformation:DescribeEvents"),
    "cloudformation:ListStackResources",
    *("cloudformation:DeleteStack", "cloudformation:TagResource", "cloudformation:DetectStackDrift"),
    *("cloudformation:DetectStackResourceDrift", "cloudformation:DescribeStackResourceDrifts"),
    *("cloudformation:DescribeStackDriftDetectionStatus", "cloudformation:UpdateTerminationProtection"),
    *("cloudformation:ContinueUpdateRollback", "cloudwatch:GetMetricStatistics", "lambda:InvokeFunction"),
    *("s3:PutObject", "s3:ListBucketVersions", "s3:DeleteObject", "s3:DeleteObjectVersion"),
    *("dynamodb:Query", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:DeleteItem"),
}
"""What fk itself calls beside; the deployment test shows that it is enough."""
OF_DYNAMODB = {
    *("kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext"),
}
"""What DynamoDB asks for beside on behalf of who gives a table a key, by its documentation."""
REFUSED = {"iam:DeleteRolePermissionsBoundary"}
"""What a handler calls to take the boundary from a role."""
EVERYTHING = {
    "WorkerQueue": "sqs",
    "DistributorQueue": "sqs",
    "SubnetIds": "subnet-1",
    "SecurityGroupIds": "sg-1",
    "KmsKeyArn": KEY,
}
QUEUES = (
    {"WorkerQueue": "sqs", "FormerWorkerQueue": "dynamodb", "DistributorQueue": "dynamodb"},
    {"WorkerQueue": "dynamodb", "FormerWorkerQueue": "sqs-unordered", "DistributorQueue": "sqs"},
)
LONG = {"Partition": "aws-us-gov", "Region": "ap-southeast-1"}
"""Pseudo parameters at least as long as any."""


def deployer(deployment: str = "fk", **pseudo: str) -> Filled:
    chosen = {"Deployment": deployment, "KmsKeyArn": KEY, "Network": "yes"}
    return Filled("deployer.yaml", chosen, **pseudo)


def allowed(filled: Filled) -> list[dict[str, Any]]:
    """The deployer's statements."""
    return statements([each for name, each in filled.resources.items() if name != "Boundary"])


def acted_on(filled: Filled, name: str) -> list[str]:
    """The ARNs by which actions may know a resource of the template."""
    resource = filled.resources[name]
    kind, properties = resource["Type"], resource["Properties"]
    if kind == "AWS::S3::BucketPolicy":
        return acted_on(filled, "DataBucket")
    if kind == "AWS::Lambda::EventSourceMapping":
        return ["arn:aws:lambda:eu-central-1:123456789012:event-source-mapping:uuid"]
    if kind in ("AWS::Lambda::Version", "AWS::Lambda::Alias", "AWS::Lambda::EventInvokeConfig"):
        function = f"arn:aws:lambda:eu-central-1:123456789012:function:{properties['FunctionName']}"
        return [function, f"{function}:live", f"{function}:1"]
    if kind == "AWS::Logs::LogGroup":
        return [filled.arn(name), filled.arn(name).removesuffix(":*")]
    return [filled.arn(name)]


def test_the_kept_schemas_are_of_the_template_s_types_and_say_where_they_are_from() -> None:
    kinds = {each["Type"] for each in Filled("template.yaml", EVERYTHING).resources.values()}
    assert kinds == set(handlers.KEPT["types"]) == set(handlers.UNUSED)
    assert "cfn-lint" in handlers.KEPT["source"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", handlers.KEPT["date"])


@pytest.mark.parametrize("kind", handlers.UNUSED)
def test_an_action_is_left_out_only_for_a_property_that_the_template_does_not_have(kind: str) -> None:
    template = Filled("template.yaml", EVERYTHING).of_type(kind)
    used = {key for each in flat(list(template.values())) if isinstance(each, dict) for key in each}
    known = json.dumps(handlers.schema_of(kind))
    called = {action for each in handlers.KEPT["types"][kind].values() for action in each}
    for name, actions in handlers.UNUSED[kind].items():
        assert name not in used
        assert f'"{name}"' in known or name in (handlers.REPLICAS, handlers.CODEDEPLOY), name
        assert set(actions) <= called


def test_who_deploys_may_do_what_handlers_and_fk_call_and_no_more() -> None:
    actions = {action for each in allowed(deployer()) for action in each["Action"]}
    needed = {action for kind in handlers.UNUSED for action in handlers.needed(kind)}
    assert needed >= REFUSED
    assert actions == (needed | OF_FK | OF_DYNAMODB) - REFUSED


def test_what_a_handler_calls_is_allowed_on_each_resource_of_the_template() -> None:
    rights = allowed(deployer())
    for queues in QUEUES:
        filled = Filled("template.yaml", {**EVERYTHING, **queues})
        roles = [filled.arn(each) for each in filled.of_type("AWS::IAM::Role")]
        elsewhere = {
            "iam:PassRole": roles,
            "s3:GetObject": ["arn:aws:s3:::fk-code-123456789012-eu-central-1/functions-1.zip"],
            "kms": [KEY],
            "ec2": ["*"],
        }
        for name, resource in filled.resources.items():
            for action in handlers.needed(resource["Type"]) - REFUSED:
                service = action.split(":")[0]
                if action == "iam:PassRole":
                    assert all(allows(rights, action, each) for each in roles), name
                    continue
                arns = elsewhere.get(action) or elsewhere.get(service) or acted_on(filled, name)
                assert any(allows(rights, action, each) for each in arns), (name, action)


def test_no_resource_of_a_deployment_with_a_longer_name_is_the_deployer_s() -> None:
    rights = [each for each in allowed(deployer("fk")) if each["Resource"] != "*"]
    for storage, queues in product(("hybrid", "persistent"), QUEUES):
        chosen = {**EVERYTHING, **queues, "UserStorage": storage}
        other = Filled("template.yaml", chosen, StackName="fk-prod")
        for name, resource in other.resources.items():
            if resource["Type"] == "AWS::Lambda::EventSourceMapping":
                continue  # named by Lambda; who may be called by one is by name
            for arn in acted_on(other, name):
                for statement in rights:
                    assert not allows([statement], statement["Action"][0], arn), (name, statement["Sid"])


def test_event_sources_can_only_be_made_for_the_deployment_s_functions() -> None:
    filled = Filled("template.yaml", EVERYTHING)
    functions = [each for alias in ("WriterLive", "DistributorLive") for each in acted_on(filled, alias)[:2]]
    for action in ("Create", "Update", "Delete"):
        (statement,) = [
            each for each in allowed(deployer()) if f"lambda:{action}EventSourceMapping" in each["Action"]
        ]
        assert statement["Condition"]["ArnEquals"]["lambda:FunctionArn"] == functions


def test_each_action_is_allowed_on_resources_if_and_only_if_it_knows_any() -> None:
    known = handlers.specifications()
    for statement in (*allowed(deployer()), *statements(deployer().resources["Boundary"])):
        for action in statement["Action"]:
            service, verb = action.split(":")
            resources = known[service][verb.lower()].get("Resources")
            if action == "dynamodb:ListStreams":
                continue  # DynamoDB's own examples narrow it to streams
            if service == "ec2" or action == "cloudwatch:DescribeAlarms":
                continue  # Lambda asks for any, and CloudWatch for all alarms, of whatever kind
            assert bool(resources) is (statement["Resource"] != "*"), action


# ---- the boundary -------------------------------------------------------------------------------


def test_roles_are_made_and_changed_only_within_the_boundary_that_the_deployer_cannot_change() -> None:
    filled = deployer()
    boundary = filled.arn("Boundary")
    for statement in allowed(filled):
        for action in statement["Action"]:
            if action in (
                *("iam:CreateRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"),
                *("iam:AttachRolePolicy", "iam:DetachRolePolicy", "iam:DeleteRolePolicy"),
            ):
                assert statement["Condition"]["StringEquals"] == {"iam:PermissionsBoundary": boundary}
    assert allows(allowed(filled), "iam:GetPolicy", boundary)  # else fk could not find it
    own = [filled.arn(each) for each in filled.resources]
    for policy, action in product(own, ("iam:CreatePolicyVersion", "iam:DeletePolicy", "iam:CreatePolicy")):
        assert not allows(allowed(filled), action, policy)
    for name, each in (
        Filled("template.yaml", {"PermissionsBoundary": boundary, **EVERYTHING})
        .of_type("AWS::IAM::Role")
        .items()
    ):
        assert each["PermissionsBoundary"] == boundary, name
    assert not any(
        "PermissionsBoundary" in each
        for each in Filled("template.yaml", EVERYTHING).of_type("AWS::IAM::Role").values()
    )


def of_roles() -> set[tuple[str, str]]:
    """Each action that a role of the template may do in some configuration, with its resource."""
    found = set()
    for storage, channel, queues in product(("hybrid", "key-value", "persistent"), ("tcp", "sqs"), QUEUES):
        chosen = {"UserStorage": storage, "ClientChannel": channel, "Tracing": "Active"}
        filled = Filled("template.yaml", {**EVERYTHING, **queues, **chosen})
        roles = list(filled.of_type("AWS::IAM::Role").values())
        attached = {arn for each in roles for arn in each.get("ManagedPolicyArns", ())}
        managed = filled.of_type("AWS::IAM::ManagedPolicy").items()
        for each in statements([roles, [each for name, each in managed if filled.arn(name) in attached]]):
            if each["Effect"] == "Allow" and each["Action"] != "sts:AssumeRole":
                found |= set(product(each["Action"], listed(each["Resource"])))
    return found


def test_the_boundary_allows_what_roles_may_do_and_no_more() -> None:
    boundary = statements(deployer().resources["Boundary"])
    needed = of_roles()
    for action, resource in needed:
        assert allows(boundary, action, resource), (action, resource)
    for each in boundary:
        of_this = [(action, resource) for action, resource in needed if allows([each], action, resource)]
        assert {action for action, _ in of_this} == set(each["Action"]), each["Sid"]
        for one in listed(each["Resource"]):
            assert any(allows([{**each, "Resource": one}], *pair) for pair in of_this), one


def test_without_a_key_and_subnets_nobody_has_rights_for_them() -> None:
    filled = Filled("deployer.yaml", {"Deployment": "fk"})
    actions = {action for each in statements(filled.resources) for action in each["Action"]}
    assert not any(each.startswith(("kms:", "ec2:")) for each in actions)


# ---- quotas -------------------------------------------------------------------------------------


def size(document: Any) -> int:
    return len(re.sub(r"\s", "", json.dumps(document, separators=(",", ":"))))


def test_policies_fit_iam_s_quotas_with_the_longest_names() -> None:
    made = [deployer("d" * 24, **LONG)]
    for storage, queues in product(("hybrid", "key-value", "persistent"), QUEUES):
        chosen = {"UserStorage": storage, "ClientChannel": "sqs", "Tracing": "Active"}
        made.append(Filled("template.yaml", {**EVERYTHING, **queues, **chosen}, StackName="d" * 24, **LONG))
    for filled in made:
        for name, each in filled.of_type("AWS::IAM::ManagedPolicy").items():
            assert size(each["PolicyDocument"]) <= POLICY_CHARACTERS, name
        for name, each in filled.of_type("AWS::IAM::Role").items():
            assert sum(size(one["PolicyDocument"]) for one in each["Policies"]) <= ROLE_CHARACTERS, name


def test_rights_on_parts_of_a_table_name_their_partitions() -> None:
    """The emulator does not know such conditions, so nothing else shows that they are right."""

    def partitions(document: Any, table: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for each in statements(document):
            compared = each.get("Condition", {})
            condition = compared.get("ForAllValues:StringEquals", compared.get("ForAllValues:StringLike", {}))
            if table in json.dumps(each.get("Resource")):
                for name in condition.get("dynamodb:LeadingKeys", ["*"]):
                    found.setdefault(name, set()).update(listed(each["Action"]))
        return found

    client = Filled("template.yaml").of_type("AWS::IAM::ManagedPolicy")["ClientPolicy"]
    assert partitions(client, "fk-lease") == {
        "lease": {"dynamodb:GetItem", "dynamodb:PutItem"},
        "ear": {"dynamodb:PutItem", "dynamodb:DeleteItem"},
    }
    assert partitions(client, "fk-checkpoint") == {"checkpoint": {"dynamodb:GetItem"}}
    beats = Filled("template.yaml").of_type("AWS::IAM::Role")["HeartbeatRole"]["Policies"]
    for table, objects in (("fk-records", True), ("fk-checkpoint", False)):
        found = partitions([each["PolicyDocument"] for each in beats], table)
        many = {name for name, actions in found.items() if "dynamodb:BatchWriteItem" in actions}
        assert many == ({"parts *", "objects"} if objects else {"parts *"})  # it could write others, too
    policies = deployer().of_type("AWS::IAM::ManagedPolicy")
    rights = {name: each for name, each in policies.items() if name.startswith("Deployer")}
    assert partitions(rights, "fk-settings")["super"] == {"dynamodb:PutItem", "dynamodb:DeleteItem"}
