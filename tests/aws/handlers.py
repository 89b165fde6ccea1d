"""What CloudFormation's handlers call, by the published schemas of the template's resource types.

``tests/data/aws_handlers.json`` keeps it. ``python -m tests.aws.handlers`` writes that file again from
the schemas that the installed cfn-lint has.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent.parent / "data" / "aws_handlers.json"
KEPT: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
"""``source``, ``date``, and ``types``: by type and handler the actions that it calls."""

REPLICAS = "replicas, which only AWS::DynamoDB::GlobalTable has"
CODEDEPLOY = "an UpdatePolicy that hands the change to CodeDeploy"
DEPLOYING = ("create", "read", "update", "delete")
"""The handlers of a deployment and of drift detection. Nothing that is done here lists resources."""

UNUSED: dict[str, dict[str, tuple[str, ...]]] = {
    "AWS::CloudWatch::Alarm": {},
    "AWS::CloudWatch::Dashboard": {},
    "AWS::DynamoDB::Table": {
        "ContributorInsightsSpecification": ("dynamodb:UpdateContributorInsights",),
        REPLICAS: (
            *("dynamodb:CreateTableReplica", "dynamodb:AssociateTableReplica", "dynamodb:Scan"),
            *("dynamodb:Query", "dynamodb:UpdateItem", "dynamodb:PutItem", "dynamodb:GetItem"),
            *("dynamodb:DeleteItem", "dynamodb:BatchWriteItem", "iam:CreateServiceLinkedRole"),
        ),
        "ImportSourceSpecification": (
            *("dynamodb:ImportTable", "dynamodb:DescribeImport", "logs:CreateLogGroup"),
            *("logs:CreateLogStream", "logs:DescribeLogGroups", "logs:DescribeLogStreams"),
            *("logs:PutLogEvents", "logs:PutRetentionPolicy", "s3:GetObject", "s3:ListBucket"),
        ),
        "KinesisStreamSpecification": (
            *("dynamodb:EnableKinesisStreamingDestination", "dynamodb:DisableKinesisStreamingDestination"),
            *("dynamodb:UpdateKinesisStreamingDestination", "kinesis:DescribeStream", "kinesis:PutRecords"),
        ),
        "ResourcePolicy": ("dynamodb:PutResourcePolicy", "dynamodb:DeleteResourcePolicy"),
    },
    "AWS::IAM::ManagedPolicy": {
        "Groups": ("iam:AttachGroupPolicy", "iam:DetachGroupPolicy"),
        "Users": ("iam:AttachUserPolicy", "iam:DetachUserPolicy"),
        "Roles": ("iam:AttachRolePolicy", "iam:DetachRolePolicy"),
    },
    "AWS::IAM::Role": {},
    "AWS::Lambda::Alias": {
        "ProvisionedConcurrencyConfig": (
            *("lambda:PutProvisionedConcurrencyConfig", "lambda:DeleteProvisionedConcurrencyConfig"),
        ),
        CODEDEPLOY: (
            *("codedeploy:CreateDeployment", "codedeploy:GetDeployment", "codedeploy:GetDeploymentGroup"),
            *("codedeploy:GetDeploymentConfig", "codedeploy:StopDeployment"),
        ),
    },
    "AWS::Lambda::EventInvokeConfig": {},
    "AWS::Lambda::EventSourceMapping": {
        "KmsKeyArn": ("kms:DescribeKey", "kms:GenerateDataKey", "kms:Decrypt"),
    },
    "AWS::Lambda::Function": {
        "CapacityProviderConfig": ("lambda:PassCapacityProvider",),
        "CodeSigningConfigArn": (
            *("lambda:PutFunctionCodeSigningConfig", "lambda:DeleteFunctionCodeSigningConfig"),
            "lambda:GetCodeSigningConfig",
        ),
        "FileSystemConfigs": ("elasticfilesystem:DescribeMountTargets", "s3files:ListMountTargets"),
        "FunctionScalingConfig": ("lambda:PutFunctionScalingConfig",),
        "KmsKeyArn": (
            *("kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"),
        ),
        "Layers": ("lambda:GetLayerVersion",),
        "PublishToLatestPublished": ("lambda:PublishVersion",),
        "RecursiveLoop": ("lambda:PutFunctionRecursionConfig",),
        "ReservedConcurrentExecutions": (
            *("lambda:PutFunctionConcurrency", "lambda:DeleteFunctionConcurrency"),
        ),
        "RuntimeManagementConfig": ("lambda:PutRuntimeManagementConfig",),
        "S3ObjectVersion": ("s3:GetObjectVersion",),
    },
    "AWS::Lambda::Version": {
        "FunctionScalingConfig": ("lambda:PutFunctionScalingConfig",),
        "ProvisionedConcurrencyConfig": ("lambda:PutProvisionedConcurrencyConfig",),
        "RuntimePolicy": ("lambda:PutRuntimeManagementConfig",),
    },
    "AWS::Logs::LogGroup": {
        "BearerTokenAuthenticationEnabled": ("logs:PutBearerTokenAuthentication",),
        "DataProtectionPolicy": ("logs:PutDataProtectionPolicy",),
        "DeletionProtectionEnabled": ("logs:PutLogGroupDeletionProtection",),
        "FieldIndexPolicies": ("logs:PutIndexPolicy", "logs:DeleteIndexPolicy"),
        "LogGroupClass": ("logs:CreateLogDelivery", "firehose:TagDeliveryStream"),
        "ResourcePolicyDocument": ("logs:PutResourcePolicy", "logs:DeleteResourcePolicy"),
    },
    "AWS::S3::Bucket": {
        "AbacStatus": ("s3:PutBucketAbac",),
        "AccelerateConfiguration": ("s3:PutAccelerateConfiguration",),
        "AccessControl": ("s3:GetBucketAcl", "s3:PutBucketAcl", "s3:PutObjectAcl"),
        "AnalyticsConfigurations": ("s3:PutAnalyticsConfiguration",),
        "CorsConfiguration": ("s3:PutBucketCORS",),
        "IntelligentTieringConfigurations": ("s3:PutIntelligentTieringConfiguration",),
        "InventoryConfigurations": ("s3:PutInventoryConfiguration",),
        "LoggingConfiguration": ("s3:PutBucketLogging", "s3:DeleteObject"),
        "MetadataTableConfiguration": (
            *("s3:CreateBucketMetadataTableConfiguration", "s3:DeleteBucketMetadataTableConfiguration"),
            *("s3tables:CreateNamespace", "s3tables:CreateTable", "s3tables:CreateTableBucket"),
            *("s3tables:GetTable", "s3tables:PutTableBucketPolicy", "s3tables:PutTableEncryption"),
            *("s3tables:PutTablePolicy", "s3tables:GetTableMetadataLocation"),
            "s3tables:UpdateTableMetadataLocation",
        ),
        "MetadataConfiguration": (
            "s3:UpdateBucketMetadataJournalTableConfiguration",
            "s3:UpdateBucketMetadataInventoryTableConfiguration",
            "s3:UpdateBucketMetadataAnnotationTableConfiguration",
        ),
        "MetricsConfigurations": ("s3:PutMetricsConfiguration",),
        "NotificationConfiguration": ("s3:PutBucketNotification",),
        "ObjectLockConfiguration": ("s3:PutBucketObjectLockConfiguration",),
        "ReplicationConfiguration": ("s3:PutReplicationConfiguration", "iam:PassRole"),
        "WebsiteConfiguration": ("s3:PutBucketWebsite", "s3:DeleteBucketWebsite"),
    },
    "AWS::S3::BucketPolicy": {},
    "AWS::SQS::Queue": {},
    "AWS::Scheduler::Schedule": {},
}
"""Actions that handlers call only for a property that the template does not have, by type and property.

The two names without a property of their own say what the actions are for.
"""


@cache
def specifications() -> dict[str, dict[str, Any]]:
    """IAM's actions by service and by name in lower case, as the installed cfn-lint knows them."""
    import cfnlint.data.AdditionalSpecs

    path = Path(cfnlint.data.AdditionalSpecs.__file__).parent / "Policies.json"
    return {name: each["Actions"] for name, each in json.loads(path.read_text()).items()}


def known(names: Iterable[str]) -> set[str]:
    """Those that are actions of IAM. Schemas also name operations, which have other actions."""
    there = specifications()
    return {each for each in names if each.split(":")[1].lower() in there.get(each.split(":")[0], ())}


def needed(kind: str) -> set[str]:
    """The actions of IAM that deploying the template's resources of a type takes."""
    handlers = KEPT["types"][kind]
    called = {each for handler in (*DEPLOYING, "tag") for each in handlers[handler]}
    return known(called).difference(*UNUSED[kind].values())


def schema_of(kind: str) -> dict[str, Any]:
    """The published schema of a type."""
    from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

    return dict(PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema)


def published() -> dict[str, Any]:
    """The actions of each type, as the installed cfn-lint has them."""
    import cfnlint.data.schemas

    version = Path(cfnlint.data.schemas.__file__).parent / "version.json"
    types: dict[str, dict[str, list[str]]] = {}
    for kind in sorted(UNUSED):
        schema = schema_of(kind)
        types[kind] = {name: sorted(each["permissions"]) for name, each in schema["handlers"].items()}
        types[kind]["tag"] = sorted(schema["tagging"].get("permissions", ()))
    return {
        "source": f"CloudFormation's resource schemas, as in cfn-lint {metadata.version('cfn-lint')}",
        "date": json.loads(version.read_text())["schema_date"][:10],
        "types": types,
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(published(), indent=1) + "\n")
