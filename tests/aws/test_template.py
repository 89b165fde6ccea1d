"""The template: no warning of cfn-lint's, and what that does not see."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path
from typing import Any

import cfnlint.api
import pytest

from faaskeeper.config import Config
from faaskeeper.core.objects import TableObjects
from faaskeeper.core.records import TableRecords
from faaskeeper.core.znode import genesis
from faaskeeper.deploy.aws import package
from faaskeeper.deploy.package import sources
from faaskeeper.deploy.providers import costs_of
from faaskeeper.deploy.templates import templates
from faaskeeper.providers.aws import functions
from faaskeeper.providers.aws.clients import CONNECT_S, READ_S, TRIES
from faaskeeper.providers.aws.service import AwsService, Names
from faaskeeper.providers.aws.tables import PARTITION, SORT, TTL
from faaskeeper.providers.memory import MemoryTable
from tests.aws.system import TABLES
from tests.aws.templates import DIRECTORY, Filled, allows, decoded, listed, statements

TEMPLATES = sorted(DIRECTORY.glob("*.yaml"))
DECODED = decoded("template.yaml")
RESOURCES: dict[str, Any] = DECODED["Resources"]
QUEUES = ("worker-queue", "distributor-queue")
"""Tables that are queues: what is in them is on its way."""
KINDS = {"sqs": "WorkerRequests", "sqs-unordered": "UnorderedRequests", "dynamodb": "WorkerTable"}


def of_type(kind: str) -> dict[str, Any]:
    return {name: each["Properties"] for name, each in RESOURCES.items() if each["Type"] == kind}


def rights(filled: Filled, role: str) -> list[dict[str, Any]]:
    """The statements of a role, with those of its managed policies."""
    properties = filled.resources[role]["Properties"]
    managed = filled.of_type("AWS::IAM::ManagedPolicy")
    attached = {filled.arn(name): each for name, each in managed.items()}
    return statements(
        [properties["Policies"], [attached[arn] for arn in properties.get("ManagedPolicyArns", [])]]
    )


@pytest.mark.clouds
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_cfn_lint_finds_nothing(template: Path) -> None:
    assert [str(each) for each in cfnlint.api.lint_file(template)] == []


def test_what_fk_applies_is_the_file_that_a_person_reads() -> None:
    applied = templates("aws").joinpath("template.yaml").read_text()
    assert applied == (DIRECTORY / "template.yaml").read_text()
    assert len(applied.encode()) <= 1024 * 1024  # most that CloudFormation takes from a bucket


def test_every_parameter_says_what_it_means() -> None:
    for name, each in DECODED["Parameters"].items():
        assert "Description" in each or "AllowedValues" in each, name
        assert name in ("CodeBucket", "CodeKey") or "Default" in each, name


# ---- rights -------------------------------------------------------------------------------------


def test_no_policy_of_a_function_or_client_allows_all_actions_or_all_resources() -> None:
    seen = 0
    for kind in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy"):
        for name, properties in of_type(kind).items():
            policies = properties.get("Policies", [properties.get("PolicyDocument")])
            for statement in statements(policies):
                seen += 1
                assert all("*" not in action for action in statement["Action"]), name
                if statement["Sid"] in ("Trace", "Network", "ButNotForCode"):
                    continue  # X-Ray and EC2 know no resources for it; only where it is asked for
                assert "*" not in listed(statement["Resource"]), (name, statement)
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


@pytest.mark.parametrize("storage", ["hybrid", "persistent"])
def test_clients_may_put_data_only_where_there_is_none(storage: str) -> None:
    filled = Filled("template.yaml", {"UserStorage": storage})
    bucket = filled.arn("DataBucket")
    policy = statements(filled.of_type("AWS::IAM::ManagedPolicy")["ClientPolicy"])
    (put,) = [each for each in policy if allows([each], "s3:PutObject", f"{bucket}/b/1")]
    assert put["Condition"] == {"Null": {"s3:if-none-match": "false"}}
    assert not allows(policy, "s3:PutObject", f"{bucket}/r/a")


@pytest.mark.parametrize("key", ["", "arn:aws:kms:eu-central-1:123456789012:key/1234"])
def test_a_key_of_the_deployment_s_own_encrypts_everything_and_its_users_may_use_it(key: str) -> None:
    everywhere = {"UserStorage": "persistent", "WorkerQueue": "dynamodb", "FormerWorkerQueue": "sqs"}
    filled = Filled("template.yaml", {"KmsKeyArn": key, "DistributorQueue": "sqs", **everywhere})
    for each in filled.of_type("AWS::DynamoDB::Table").values():
        wanted = {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": key} if key else None
        assert each.get("SSESpecification") == wanted
    for each in filled.of_type("AWS::SQS::Queue").values():
        assert each.get("KmsMasterKeyId", "") == key
        assert each["SqsManagedSseEnabled"] is not bool(key)
    for each in filled.of_type("AWS::Logs::LogGroup").values():
        assert each.get("KmsKeyId", "") == key
    (bucket,) = filled.of_type("AWS::S3::Bucket").values()
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"].get("KMSMasterKeyID", "") == key
    roles = [rights(filled, each) for each in filled.of_type("AWS::IAM::Role") if each != "ScheduleRole"]
    for each in (*roles, statements(filled.of_type("AWS::IAM::ManagedPolicy")["ClientPolicy"])):
        for action in ("kms:Decrypt", "kms:GenerateDataKey"):
            assert allows(each, action, key or "any") is bool(key)


@pytest.mark.parametrize("subnets", ["", "subnet-1,subnet-2"])
def test_roles_may_make_network_interfaces_only_in_subnets_and_code_may_not(subnets: str) -> None:
    filled = Filled(
        "template.yaml", {"SubnetIds": subnets, "SecurityGroupIds": "sg-1", "DistributorQueue": "sqs"}
    )
    made = filled.of_type("AWS::Lambda::Function")
    for each in made.values():
        wanted = {"SubnetIds": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]} if subnets else None
        assert each.get("VpcConfig") == wanted
    for name in filled.of_type("AWS::IAM::Role"):
        if name == "ScheduleRole":
            continue
        found = [each for each in rights(filled, name) if "ec2:CreateNetworkInterface" in each["Action"]]
        assert [each["Effect"] for each in found] == (["Allow", "Deny"] if subnets else [])
        if found:
            assert found[0]["Action"] == found[1]["Action"]
            denied = found[1]["Condition"]["ArnEquals"]["lambda:SourceFunctionArn"]
            assert denied == [filled.arn(each) for each in made]


# ---- storage ------------------------------------------------------------------------------------


def test_tables_are_as_the_driver_expects_them_and_billed_by_the_request() -> None:
    tables = of_type("AWS::DynamoDB::Table")
    names = Names("${AWS::StackName}")
    expected = {names.table(each) for each in (*TABLES, *QUEUES)}
    assert {each["TableName"]["Fn::Sub"] for each in tables.values()} == expected
    for name, each in tables.items():
        keys = [(key["AttributeName"], key["KeyType"]) for key in each["KeySchema"]]
        assert keys == [(PARTITION, "HASH"), (SORT, "RANGE")], name
        assert each["BillingMode"] == "PAY_PER_REQUEST"
    for name in ("LogTable", "WorkerTable", "DistributorTable"):
        assert tables[name]["TimeToLiveSpecification"] == {"AttributeName": TTL, "Enabled": True}


@pytest.mark.parametrize(("chosen", "days"), [({}, "35"), ({"RestoreDays": "7"}, "7")])
def test_tables_and_bucket_can_be_restored_to_the_same_moments(chosen: dict[str, str], days: str) -> None:
    filled = Filled("template.yaml", {"WorkerQueue": "dynamodb", **chosen})
    for each in filled.of_type("AWS::DynamoDB::Table").values():
        recovery = each.get("PointInTimeRecoverySpecification")
        if each["TableName"].endswith(QUEUES):
            assert recovery is None
        else:
            assert recovery == {"PointInTimeRecoveryEnabled": True, "RecoveryPeriodInDays": days}
    (bucket,) = filled.of_type("AWS::S3::Bucket").values()
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    rules = bucket["LifecycleConfiguration"]["Rules"]
    kept = [each["NoncurrentVersionExpiration"] for each in rules if "NoncurrentVersionExpiration" in each]
    assert kept == [{"NoncurrentDays": days}]
    assert not any("ExpirationInDays" in each for each in rules)


@pytest.mark.parametrize("protect", ["yes", "no"])
def test_what_is_stored_is_protected_encrypted_and_kept_by_updates_and_deletion(protect: str) -> None:
    filled = Filled("template.yaml", {"Protect": protect, "WorkerQueue": "dynamodb"})
    for name, resource in filled.resources.items():
        if resource["Type"] in ("AWS::DynamoDB::Table", "AWS::S3::Bucket"):
            assert resource["UpdateReplacePolicy"] == "Retain", name
            transit = name in ("WorkerTable", "DistributorTable")
            assert resource["DeletionPolicy"] == ("Delete" if transit else "RetainExceptOnCreate"), name
            if resource["Type"] == "AWS::DynamoDB::Table" and not transit:
                assert resource["Properties"]["DeletionProtectionEnabled"] is (protect == "yes")
    (bucket,) = of_type("AWS::S3::Bucket").values()
    assert "BucketEncryption" in bucket
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}


# ---- queues and sources -------------------------------------------------------------------------


def test_sources_ring_from_the_start_of_streams_that_exist_and_take_back_what_failed() -> None:
    sources = of_type("AWS::Lambda::EventSourceMapping")
    assert len(sources) == 5
    for name, each in sources.items():
        assert each["FunctionResponseTypes"] == ["ReportBatchItemFailures"], name
        target, attribute = each["EventSourceArn"]["Fn::GetAtt"]
        if attribute == "StreamArn":
            assert each["StartingPosition"] == "TRIM_HORIZON"
            assert RESOURCES[target]["Properties"]["StreamSpecification"] == {"StreamViewType": "NEW_IMAGE"}
            assert "OnFailure" in each["DestinationConfig"]
            # the items that expire are no messages
            (pattern,) = each["FilterCriteria"]["Filters"]
            assert json.loads(pattern["Pattern"]) == {"eventName": ["INSERT"]}
        else:
            assert "StartingPosition" not in each


@pytest.mark.parametrize(("role", "source"), [("WriterRole", "Worker"), ("DistributorRole", "Distributor")])
def test_a_function_may_take_from_what_rings_it(role: str, source: str) -> None:
    allowed = {each["Sid"]: each for each in statements(RESOURCES[role]["Properties"]["Policies"])}
    for queue in ("BeRung", "BeRungUnordered") if source == "Worker" else ("BeRung",):
        assert set(allowed[queue]["Action"]) == {
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


@pytest.mark.parametrize(("present", "former"), list(product(KINDS, ("", *KINDS))))
def test_a_former_worker_queue_still_rings_the_writer_and_takes_from_clients(
    present: str, former: str
) -> None:
    filled = Filled("template.yaml", {"WorkerQueue": present, "FormerWorkerQueue": former})
    kept = {KINDS[each] for each in (present, former) if each}
    assert {each for each in KINDS.values() if each in filled.resources} == kept
    sources = filled.of_type("AWS::Lambda::EventSourceMapping").values()
    rung = {re.sub("/stream/.*", "", each["EventSourceArn"]) for each in sources}
    assert rung == {filled.arn(each) for each in kept}
    assert {each["FunctionName"] for each in sources} == {filled.arn("WriterLive")}
    client = statements(filled.of_type("AWS::IAM::ManagedPolicy")["ClientPolicy"])
    writer, heartbeat = rights(filled, "WriterRole"), rights(filled, "HeartbeatRole")
    for name in KINDS.values():
        table = name == "WorkerTable"
        send, take = (
            ("dynamodb:PutItem", "dynamodb:GetRecords")
            if table
            else ("sqs:SendMessage", "sqs:ReceiveMessage")
        )
        arn = filled.arn(name)
        assert allows(client, send, arn) is (name in kept)
        assert allows(writer, take, f"{arn}/stream/2026-01-01T00:00:00.000" if table else arn) is (
            name in kept
        )
        assert allows(heartbeat, send, arn) is (name == KINDS[present])
    queue = {"sqs": "worker.fifo", "sqs-unordered": "worker"}
    assert ("WorkerQueueTable" in filled.outputs) is (present == "dynamodb")
    assert filled.outputs.get("WorkerQueueUrl", "none").endswith(queue.get(present, "none"))
    gone = "none" if former == present else queue.get(former, "none")
    assert filled.outputs.get("FormerWorkerQueueUrl", "none").endswith(gone)


# ---- functions ----------------------------------------------------------------------------------

CHOICES = {
    "UserStorage": ("hybrid", "key-value", "persistent"),
    "WorkerQueue": tuple(KINDS),
    "DistributorQueue": ("inline", "sqs", "dynamodb"),
    "WatchFunction": ("lambda", "inline"),
    "Benchmarking": ("0", "5"),
}


@pytest.mark.parametrize("chosen", list(product(*CHOICES.values())), ids="-".join)
def test_every_function_has_a_handler_its_own_role_and_the_same_valid_configuration(
    chosen: tuple[str, ...],
) -> None:
    filled = Filled("template.yaml", dict(zip(CHOICES, chosen, strict=True)))
    made = filled.of_type("AWS::Lambda::Function")
    configurations = set()
    for name, each in made.items():
        module, handler = each["Handler"].rsplit(".", 1)
        assert module == package.ENTRY
        assert callable(getattr(functions, handler)), name
        assert f"/aws/lambda/{each['FunctionName']}" == each["LoggingConfig"]["LogGroup"]
        configurations.add(each["Environment"]["Variables"]["FAASKEEPER_CONFIG"])
    assert len({json.dumps(each["Role"]) for each in made.values()}) == len(made)
    (configuration,) = configurations
    service = AwsService(Config.deserialize(json.loads(configuration)))
    assert service.names.deployment == "fk"
    sent = service.watch_queue()
    assert (sent is None) is ("WatchLive" not in filled.resources)
    assert service.section["watch-function"] == ("fk-watch:live" if sent else "")
    service.aws.close()


def test_functions_log_json_once_and_lambda_drops_neither_metrics_nor_exceptions() -> None:
    for level, passes in (("DEBUG", "DEBUG"), ("INFO", "INFO"), ("WARNING", "INFO"), ("ERROR", "INFO")):
        for each in Filled("template.yaml", {"LogLevel": level}).of_type("AWS::Lambda::Function").values():
            logging = each["LoggingConfig"]
            assert (logging["LogFormat"], logging["SystemLogLevel"]) == ("JSON", "WARN")
            assert logging["ApplicationLogLevel"] == passes
            assert each["Environment"]["Variables"]["FAASKEEPER_LOG_LEVEL"] == level


def test_functions_are_called_by_their_alias_and_a_release_publishes_a_version() -> None:
    everywhere = {"WorkerQueue": "dynamodb", "FormerWorkerQueue": "sqs-unordered", "DistributorQueue": "sqs"}
    filled = Filled("template.yaml", {"CodeKey": "code-1.zip", "Release": "abc", **everywhere})
    made = filled.of_type("AWS::Lambda::Function")
    for each in made.values():  # Lambda publishes no version of a function that did not change
        assert each["Environment"]["Variables"]["FAASKEEPER_RELEASE"] == "code-1.zip abc"
    versions = {
        name: each for name, each in filled.resources.items() if each["Type"] == "AWS::Lambda::Version"
    }
    assert sorted(each["Properties"]["FunctionName"] for each in versions.values()) == sorted(
        each["FunctionName"] for each in made.values()
    )
    for each in versions.values():
        assert each["Properties"]["Description"] == "code-1.zip abc"
        assert each["UpdateReplacePolicy"] == "Retain"  # or an earlier version would be deleted
        assert (
            each["DeletionPolicy"] == "Delete"
        )  # or an update that failed would leave one that is never published
    aliases = filled.of_type("AWS::Lambda::Alias")
    live = {filled.arn(each) for each in aliases}
    assert {each["FunctionName"] for each in aliases.values()} == {
        each["FunctionName"] for each in made.values()
    }
    sources = filled.of_type("AWS::Lambda::EventSourceMapping").values()
    schedules = filled.of_type("AWS::Scheduler::Schedule").values()
    called = {each["FunctionName"] for each in sources} | {each["Target"]["Arn"] for each in schedules}
    (watch,) = filled.of_type("AWS::Lambda::EventInvokeConfig").values()
    called.add(f"{filled.arn('WatcherFunction')}:{watch['Qualifier']}")
    assert called == live
    for role in filled.of_type("AWS::IAM::Role"):
        for each in rights(filled, role):
            if "lambda:InvokeFunction" in each["Action"]:
                assert each["Resource"] in live


@pytest.mark.parametrize("which", ["Writer", "Distributor", "Watch", "Heartbeat"])
def test_a_pinned_function_runs_an_earlier_version(which: str) -> None:
    chosen = {"DistributorQueue": "sqs"}
    newest = Filled("template.yaml", chosen).of_type("AWS::Lambda::Alias")
    pinned = Filled("template.yaml", {f"Pinned{which}": "7", **chosen}).of_type("AWS::Lambda::Alias")
    changed = {name: each["FunctionVersion"] for name, each in pinned.items() if each != newest[name]}
    assert changed == {f"{which}Live": "7"}


def test_time_outs_nest_a_call_within_a_function_within_a_message_s_absence() -> None:
    call_ms = (CONNECT_S + READ_S) * TRIES * 1000
    for window in (0, 300):
        chosen = {"WorkerQueue": "sqs-unordered", "FormerWorkerQueue": "sqs", "DistributorQueue": "sqs"}
        filled = Filled("template.yaml", {"UnorderedWindow": str(window), "UnorderedBatch": "100", **chosen})
        made = filled.of_type("AWS::Lambda::Function")
        for name in ("WriterFunction", "DistributorFunction", "WatcherFunction"):
            assert call_ms < functions.RESERVE_MS < made[name]["Timeout"] * 1000 / 2
        queues = {each["QueueName"]: each for each in filled.of_type("AWS::SQS::Queue").values()}
        sources = filled.of_type("AWS::Lambda::EventSourceMapping").values()
        assert len(sources) == 3
        for each in sources:
            function = (
                "WriterFunction"
                if each["FunctionName"] == filled.arn("WriterLive")
                else "DistributorFunction"
            )
            queue = queues[each["EventSourceArn"].rsplit(":", 1)[-1]]
            waits = int(each.get("MaximumBatchingWindowInSeconds", 0))
            assert queue["VisibilityTimeout"] == 6 * made[function]["Timeout"] + waits
            assert queue["RedrivePolicy"]["deadLetterTargetArn"] == filled.arn(
                {"fk-worker": "UnorderedDeadLetters", "fk-worker.fifo": "WorkerDeadLetters"}.get(
                    queue["QueueName"], "DistributorDeadLetters"
                )
            )


# ---- monitoring ---------------------------------------------------------------------------------


def test_a_heartbeat_that_is_not_called_is_an_alarm_that_missing_data_raises() -> None:
    filled = Filled("template.yaml", {"HeartbeatSilence": "900"})
    alarm = filled.of_type("AWS::CloudWatch::Alarm")["SilenceAlarm"]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == (
        "AWS/Lambda",
        "Invocations",
        "Sum",
    )
    assert alarm["Dimensions"] == [{"Name": "FunctionName", "Value": "fk-heartbeat"}]
    assert (alarm["ComparisonOperator"], alarm["TreatMissingData"]) == ("LessThanThreshold", "breaching")
    assert (alarm["Period"], alarm["EvaluationPeriods"]) == ("900", 1)
    assert 1 < alarm["Threshold"] <= 3  # of five beats; a sweep alone is too few


@pytest.mark.parametrize("worker", KINDS)
@pytest.mark.parametrize("distributor", ["inline", "sqs", "dynamodb"])
def test_alarms_and_dashboard_are_about_what_there_is(worker: str, distributor: str) -> None:
    filled = Filled(
        "template.yaml", {"WorkerQueue": worker, "DistributorQueue": distributor, "AlarmTopic": "arn:t"}
    )
    queues = {each["QueueName"] for each in filled.of_type("AWS::SQS::Queue").values()}
    made = {each["FunctionName"] for each in filled.of_type("AWS::Lambda::Function").values()}
    alarms = filled.of_type("AWS::CloudWatch::Alarm").values()
    for each in alarms:
        ((dimension),) = each["Dimensions"]
        there = {"QueueName": queues, "FunctionName": made}[dimension["Name"]]
        assert dimension["Value"] in there
        assert each["AlarmActions"] == ["arn:t"]
    dead = {each["Dimensions"][0]["Value"] for each in alarms if "dead" in each["AlarmName"]}
    assert dead == {each for each in queues if "dead" in each}
    (dashboard,) = filled.of_type("AWS::CloudWatch::Dashboard").values()
    widgets = json.loads(dashboard["DashboardBody"])["widgets"]
    assert [each["properties"]["region"] for each in widgets] == ["eu-central-1"] * 4
    drawn = {
        each[3] for widget in widgets for each in widget["properties"]["metrics"] if each[2] == "FunctionName"
    }
    assert drawn == {"fk-writer", "fk-distributor", "fk-watch", "fk-heartbeat"}
    assert not Filled("template.yaml", {"Monitoring": "no"}).of_type("AWS::CloudWatch::Alarm")


def test_the_cost_at_rest_counts_the_alarms_that_there_are() -> None:
    config = {"cloud-provider": "aws", "deployment-name": "fk", "deployment-region": "us-east-1"}
    costs = costs_of(Config.deserialize({**config, "aws": {}}))
    assert costs is not None
    alarms = len(Filled("template.yaml").of_type("AWS::CloudWatch::Alarm"))
    (counted,) = [each for name, each in costs.at_rest().items() if "alarms" in name]
    assert counted == pytest.approx(alarms * costs.table["cloudwatch"]["alarm-month"])


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
