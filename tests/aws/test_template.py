"""The templates: no warning of cfn-lint's, and what that does not see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cfnlint.api
import cfnlint.decode.cfn_yaml
import pytest

from faaskeeper.core.objects import TableObjects
from faaskeeper.core.records import TableRecords
from faaskeeper.core.znode import genesis
from faaskeeper.deploy.aws import package, stack
from faaskeeper.deploy.package import sources
from faaskeeper.providers.aws import functions
from faaskeeper.providers.aws.clients import CONNECT_S, READ_S, TRIES
from faaskeeper.providers.aws.service import Names
from faaskeeper.providers.aws.tables import PARTITION, SORT, TTL
from faaskeeper.providers.memory import MemoryTable
from tests.aws.system import TABLES

DIRECTORY = Path(__file__).parent.parent.parent / "deploy" / "aws"
TEMPLATES = sorted(DIRECTORY.glob("*.yaml"))
DECODED: dict[str, Any] = json.loads(
    json.dumps(cfnlint.decode.cfn_yaml.load(str(DIRECTORY / "template.yaml")))
)
RESOURCES: dict[str, Any] = DECODED["Resources"]


def of_type(kind: str) -> dict[str, Any]:
    return {name: each["Properties"] for name, each in RESOURCES.items() if each["Type"] == kind}


def flat(value: Any) -> list[Any]:
    """Every dictionary and text in a value, whatever conditions stand around it."""
    found = [value]
    if isinstance(value, dict):
        for each in value.values():
            found.extend(flat(each))
    elif isinstance(value, list):
        for each in value:
            found.extend(flat(each))
    return found


def statements(properties: Any) -> list[dict[str, Any]]:
    return [each for each in flat(properties) if isinstance(each, dict) and "Effect" in each]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_cfn_lint_finds_nothing(template: Path) -> None:
    assert [str(each) for each in cfnlint.api.lint_file(template)] == []


def test_what_fk_applies_is_the_file_that_a_person_reads() -> None:
    assert stack.template() == (DIRECTORY / "template.yaml").read_text()
    assert len(stack.template().encode()) <= 51_200  # most that CloudFormation takes without a bucket


def test_no_policy_of_a_function_or_client_allows_all_actions_or_all_resources() -> None:
    seen = 0
    for kind in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy"):
        for name, properties in of_type(kind).items():
            policies = properties.get("Policies", [properties.get("PolicyDocument")])
            for statement in statements(policies):
                seen += 1
                assert all("*" not in action for action in statement["Action"]), name
                if statement["Sid"] == "Trace":  # of X-Ray, which knows no resources, where it is asked for
                    continue
                resources = statement["Resource"]
                resources = resources if isinstance(resources, list) else [resources]
                assert "*" not in resources, (name, statement)
    assert seen > 50


def test_no_role_may_delete_an_entry_of_the_log_and_only_trusted_ones_read_the_key() -> None:
    readers = set()
    for kind in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy"):
        for name, properties in of_type(kind).items():
            for statement in statements([properties.get("Policies"), properties.get("PolicyDocument")]):
                table = statement.get("Resource")
                if table == {"Fn::GetAtt": ["LogTable", "Arn"]}:
                    assert "dynamodb:DeleteItem" not in statement["Action"]
                if table == {"Fn::GetAtt": ["SettingsTable", "Arn"]}:
                    readers.add(name)
    assert readers == {"WriterRole", "DistributorRole", "WatchRole", "HeartbeatRole", "DirectPolicy"}


def test_heartbeat_may_put_the_tree_s_first_records_and_no_others() -> None:
    heartbeat = RESOURCES["HeartbeatRole"]["Properties"]["Policies"]
    (begin,) = [each for each in statements(heartbeat) if each["Sid"] == "BeginTree"]
    allowed = begin["Condition"]["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"]
    assert sorted(allowed) == sorted(genesis())


def test_heartbeat_may_find_and_mark_what_is_left_of_items_in_parts() -> None:
    heartbeat = RESOURCES["HeartbeatRole"]["Properties"]["Policies"]
    (sweep,) = [each for each in statements(heartbeat) if each["Sid"] == "SweepParts"]
    assert sweep["Action"] == ["dynamodb:Query", "dynamodb:PutItem"]
    allowed = sweep["Condition"]["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"]
    stores = (TableRecords(MemoryTable()), TableObjects(MemoryTable()))
    assert allowed == [each.wide.index for each in stores]


def test_tables_are_as_the_driver_expects_them_and_billed_by_the_request() -> None:
    tables = of_type("AWS::DynamoDB::Table")
    names = Names("${AWS::StackName}")
    expected = {names.table(each) for each in (*TABLES, "worker-queue", "distributor-queue")}
    assert {each["TableName"]["Fn::Sub"] for each in tables.values()} == expected
    for name, each in tables.items():
        keys = [(key["AttributeName"], key["KeyType"]) for key in each["KeySchema"]]
        assert keys == [(PARTITION, "HASH"), (SORT, "RANGE")], name
        assert each["BillingMode"] == "PAY_PER_REQUEST"
    for name in ("LogTable", "WorkerTable", "DistributorTable"):
        assert tables[name]["TimeToLiveSpecification"] == {"AttributeName": TTL, "Enabled": True}
    assert tables["LogTable"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_what_is_stored_is_encrypted_and_not_replaced_silently() -> None:
    for name, resource in RESOURCES.items():
        if resource["Type"] in ("AWS::DynamoDB::Table", "AWS::S3::Bucket"):
            assert resource["UpdateReplacePolicy"] == "Retain", name
    for name, queue in of_type("AWS::SQS::Queue").items():
        assert queue["SqsManagedSseEnabled"] is True, name
    (bucket,) = of_type("AWS::S3::Bucket").values()
    assert "BucketEncryption" in bucket
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}


def test_sources_ring_from_the_start_of_streams_that_exist_and_take_back_what_failed() -> None:
    sources = of_type("AWS::Lambda::EventSourceMapping")
    assert len(sources) == 4
    for name, each in sources.items():
        assert each["FunctionResponseTypes"] == ["ReportBatchItemFailures"], name
        target, attribute = each["EventSourceArn"]["Fn::GetAtt"]
        if attribute == "StreamArn":
            assert each["StartingPosition"] == "TRIM_HORIZON"
            assert RESOURCES[target]["Properties"]["StreamSpecification"] == {"StreamViewType": "NEW_IMAGE"}
            assert "OnFailure" in each["DestinationConfig"]
        else:
            assert "StartingPosition" not in each


@pytest.mark.parametrize(("role", "source"), [("WriterRole", "Worker"), ("DistributorRole", "Distributor")])
def test_a_function_may_take_from_what_rings_it(role: str, source: str) -> None:
    allowed = {each["Sid"]: each for each in statements(RESOURCES[role]["Properties"]["Policies"])}
    assert set(allowed["BeRung"]["Action"]) == {
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
    }
    assert set(allowed["BeRungByStream"]["Action"]) == {
        "dynamodb:DescribeStream",
        "dynamodb:GetRecords",
        "dynamodb:GetShardIterator",
    }
    assert allowed["FindStream"]["Action"] == ["dynamodb:ListStreams"]
    (mapping,) = [name for name in RESOURCES if name == f"{source}QueueSource"]
    assert RESOURCES[mapping]["DependsOn"] == role


def test_every_function_has_a_handler_its_own_role_and_the_same_configuration() -> None:
    made = of_type("AWS::Lambda::Function")
    assert len(made) == 4
    configurations = []
    for name, each in made.items():
        module, handler = each["Handler"].rsplit(".", 1)
        assert module == package.ENTRY
        assert callable(getattr(functions, handler)), name
        configurations.append(each["Environment"]["Variables"]["FAASKEEPER_CONFIG"]["Fn::Sub"][0])
    assert len({json.dumps(each["Role"]) for each in made.values()}) == 4
    assert len(set(configurations)) == 1


def test_time_outs_nest_a_call_within_a_function_within_a_message_s_absence() -> None:
    call_ms = (CONNECT_S + READ_S) * TRIES * 1000
    made = of_type("AWS::Lambda::Function")
    queues = of_type("AWS::SQS::Queue")
    for name in ("WriterFunction", "DistributorFunction", "WatcherFunction"):
        assert call_ms < functions.RESERVE_MS < made[name]["Timeout"] * 1000 / 2
    for name in ("WorkerRequests", "DistributorBells"):
        assert queues[name]["VisibilityTimeout"] > made["WriterFunction"]["Timeout"]
        assert "deadLetterTargetArn" in queues[name]["RedrivePolicy"]


NEEDED: dict[str, set[str]] = {
    "AWS::DynamoDB::Table": {
        *("dynamodb:CreateTable", "dynamodb:UpdateTable", "dynamodb:DeleteTable", "dynamodb:DescribeTable"),
        *("dynamodb:UpdateTimeToLive", "dynamodb:DescribeTimeToLive", "dynamodb:UpdateContinuousBackups"),
        *("dynamodb:DescribeContinuousBackups", "dynamodb:TagResource", "dynamodb:UntagResource"),
        "dynamodb:ListTagsOfResource",
    },
    "AWS::S3::Bucket": {
        *("s3:CreateBucket", "s3:DeleteBucket", "s3:ListBucket", "s3:PutBucketPublicAccessBlock"),
        *("s3:GetBucketPublicAccessBlock", "s3:PutEncryptionConfiguration", "s3:GetEncryptionConfiguration"),
        *("s3:PutLifecycleConfiguration", "s3:GetLifecycleConfiguration", "s3:PutBucketOwnershipControls"),
        *("s3:GetBucketOwnershipControls", "s3:PutBucketTagging", "s3:GetBucketTagging"),
    },
    "AWS::S3::BucketPolicy": {"s3:PutBucketPolicy", "s3:GetBucketPolicy", "s3:DeleteBucketPolicy"},
    "AWS::SQS::Queue": {
        *("sqs:CreateQueue", "sqs:DeleteQueue", "sqs:GetQueueAttributes", "sqs:SetQueueAttributes"),
        *("sqs:GetQueueUrl", "sqs:TagQueue", "sqs:UntagQueue", "sqs:ListQueueTags"),
    },
    "AWS::Lambda::Function": {
        *("lambda:CreateFunction", "lambda:DeleteFunction", "lambda:GetFunction", "iam:PassRole"),
        *("lambda:GetFunctionConfiguration", "lambda:UpdateFunctionCode", "s3:GetObject"),
        *(
            "lambda:UpdateFunctionConfiguration",
            "lambda:TagResource",
            "lambda:UntagResource",
            "lambda:ListTags",
        ),
    },
    "AWS::Lambda::EventInvokeConfig": {
        *("lambda:PutFunctionEventInvokeConfig", "lambda:UpdateFunctionEventInvokeConfig"),
        *("lambda:GetFunctionEventInvokeConfig", "lambda:DeleteFunctionEventInvokeConfig"),
    },
    "AWS::Lambda::EventSourceMapping": {
        *("lambda:CreateEventSourceMapping", "lambda:UpdateEventSourceMapping"),
        *("lambda:DeleteEventSourceMapping", "lambda:GetEventSourceMapping"),
    },
    "AWS::IAM::Role": {
        *("iam:CreateRole", "iam:DeleteRole", "iam:GetRole", "iam:UpdateRole", "iam:UpdateAssumeRolePolicy"),
        *("iam:PutRolePolicy", "iam:GetRolePolicy", "iam:DeleteRolePolicy", "iam:ListRolePolicies"),
        *("iam:AttachRolePolicy", "iam:DetachRolePolicy", "iam:ListAttachedRolePolicies"),
        *("iam:TagRole", "iam:UntagRole"),
    },
    "AWS::IAM::ManagedPolicy": {
        *("iam:CreatePolicy", "iam:DeletePolicy", "iam:GetPolicy", "iam:CreatePolicyVersion"),
        *("iam:DeletePolicyVersion", "iam:GetPolicyVersion", "iam:ListPolicyVersions"),
        "iam:ListEntitiesForPolicy",
    },
    "AWS::Logs::LogGroup": {
        *("logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:PutRetentionPolicy", "logs:DescribeLogGroups"),
        *("logs:DeleteRetentionPolicy", "logs:TagResource", "logs:UntagResource", "logs:ListTagsForResource"),
    },
    "AWS::Scheduler::Schedule": {
        *("scheduler:CreateSchedule", "scheduler:UpdateSchedule", "scheduler:DeleteSchedule"),
        *("scheduler:GetSchedule", "iam:PassRole"),
    },
    "AWS::CloudWatch::Alarm": {
        *("cloudwatch:PutMetricAlarm", "cloudwatch:DeleteAlarms", "cloudwatch:DescribeAlarms"),
        *("cloudwatch:TagResource", "cloudwatch:UntagResource", "cloudwatch:ListTagsForResource"),
    },
    "AWS::CloudWatch::Dashboard": {
        *("cloudwatch:PutDashboard", "cloudwatch:DeleteDashboards", "cloudwatch:GetDashboard"),
    },
}
"""What CloudFormation's handlers of each type call, by their documentation, for what is used here."""
OF_FK = {
    *(
        "cloudformation:CreateChangeSet",
        "cloudformation:DescribeChangeSet",
        "cloudformation:ExecuteChangeSet",
    ),
    *(
        "cloudformation:DeleteChangeSet",
        "cloudformation:DescribeStacks",
        "cloudformation:DescribeStackEvents",
    ),
    *("cloudformation:ListStackResources", "cloudformation:DeleteStack", "cloudformation:DetectStackDrift"),
    *("cloudformation:DetectStackResourceDrift", "cloudformation:DescribeStackResourceDrifts"),
    *("cloudformation:DescribeStackDriftDetectionStatus", "cloudformation:TagResource"),
    *("s3:PutObject", "s3:DeleteObject", "lambda:InvokeFunction"),
    *("dynamodb:Query", "dynamodb:DeleteItem", "dynamodb:PutItem"),
}
"""What fk itself calls beside; the deployment test shows that it is enough."""


def test_rights_on_parts_of_a_table_name_their_partitions() -> None:
    """The emulator does not know such conditions, so nothing else shows that they are right."""

    def partitions(document: Any, table: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for each in statements(document):
            if table in json.dumps(each["Resource"]):
                condition = each["Condition"]["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"]
                for name in condition:
                    found.setdefault(name, set()).update(each["Action"])
        return found

    client = RESOURCES["ClientPolicy"]["Properties"]["PolicyDocument"]
    assert partitions(client, "LeaseTable") == {
        "lease": {"dynamodb:GetItem", "dynamodb:PutItem"},
        "ear": {"dynamodb:PutItem", "dynamodb:DeleteItem"},
    }
    assert partitions(client, "CheckpointTable") == {"checkpoint": {"dynamodb:GetItem"}}
    deployer = json.loads(json.dumps(cfnlint.decode.cfn_yaml.load(str(DIRECTORY / "deployer.yaml"))))
    assert partitions(deployer, "-settings") == {"super": {"dynamodb:PutItem", "dynamodb:DeleteItem"}}


def test_who_deploys_may_do_what_deploying_takes_and_no_more() -> None:
    decoded = json.loads(json.dumps(cfnlint.decode.cfn_yaml.load(str(DIRECTORY / "deployer.yaml"))))
    allowed = {action for each in statements(decoded) for action in each["Action"]}
    kinds = {each["Type"] for each in RESOURCES.values()}
    assert kinds == set(NEEDED)
    assert allowed == OF_FK.union(*NEEDED.values())


def test_the_package_is_small_reproducible_and_has_no_more_than_the_functions_import() -> None:
    made, other = package.package(), package.package()
    assert (made.key, made.body) == (other.key, other.body)
    assert package.package("x86_64").key != made.key
    assert len(made.body) < 6_000_000  # most of it is what seals; uploads by S3 may have 250 MB unzipped
    found = set(sources(package.ENTRY))
    assert "faaskeeper/providers/aws/functions.py" in found
    assert not any(
        each.startswith(("faaskeeper/client", "faaskeeper/cli", "faaskeeper/deploy", "faaskeeper/testing"))
        for each in found
    )
    assert not any(each.startswith("faaskeeper/providers/local") for each in found)
