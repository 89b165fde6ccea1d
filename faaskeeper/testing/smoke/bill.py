"""Compares a report with the bill, which a cloud knows a day or two later.

AWS tells it by Cost Explorer, for resources with the deployment's tag, if the tag is activated for
that. Google has no interface for costs: what an account is charged is exported to BigQuery, from when
somebody switches that on, and a query of that table tells it, by project and hour.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from faaskeeper.config import Config
from faaskeeper.core.errors import DriverError
from faaskeeper.testing.smoke.report import Report, table
from faaskeeper.testing.smoke.stage import Failed

_TOLERANCE = 1.25
_CENT = 0.01
_SERVICES = {
    "DynamoDB": "Amazon DynamoDB",
    "S3": "Amazon Simple Storage Service",
    "SQS": "Amazon Simple Queue Service",
    "Lambda": "AWS Lambda",
    "CloudWatch": "AmazonCloudWatch",
    "alarms and dashboard": "AmazonCloudWatch",
    "Datastore": "Cloud Firestore",
    "alert policies": "Cloud Monitoring",
}
"""Names on the bill by the first words of the report's lines; others are the same."""
_DAY_S = 24 * 3600


def compare(report: Report, data: Mapping[str, Any], export: str, say: Callable[[str], None]) -> bool:
    """Print report and bill side by side; returns whether the bill is no more than was counted.

    ``export``: the table that Google exports billing data to. Raises Failed if there is no bill.
    """
    if report.emulated:
        raise Failed("that run was on emulators, which nobody charges")
    config = Config.deserialize(data)
    try:
        if config.provider_name == "aws":
            charged = _cost_explorer(report, config)
        else:
            charged = _exported(report, config, export)
    except DriverError as error:
        raise Failed(str(error)) from error
    counted: dict[str, float] = {}
    for each in report.usage:
        first = each.what.split(",")[0]
        name = _SERVICES.get(first, first)
        counted[name] = counted.get(name, 0.0) + each.cost
    names = sorted({*counted, *charged})
    rows = [(name, f"{counted.get(name, 0.0):.4f}", f"{charged.get(name, 0.0):.4f}") for name in names]
    total = sum(charged.values())
    rows.append(("total", f"{report.cost:.4f}", f"{total:.4f}"))
    say(table(("service", "counted, $", "charged, $"), rows))
    if total > report.cost * _TOLERANCE and total > report.cost + _CENT:
        say("The bill is more than what was counted: something is charged that the report does not have.")
        return False
    say("The bill is no more than what was counted. What is within a free tier is charged with nothing.")
    return True


# ---- AWS -----------------------------------------------------------------------------------------


def _cost_explorer(report: Report, config: Config) -> dict[str, float]:
    """Dollars by service, without credits. A call costs a cent."""
    from faaskeeper.deploy.aws.leftovers import TAG
    from faaskeeper.providers.aws.service import AwsService

    aws = AwsService(config).aws
    client = aws.client("ce", read_timeout=60.0)
    day = "%Y-%m-%d"
    asked: dict[str, Any] = {
        "TimePeriod": {
            "Start": time.strftime(day, time.gmtime(report.began)),
            "End": time.strftime(day, time.gmtime(report.ended + _DAY_S)),
        },
        "Granularity": "DAILY",
        "Metrics": ["UnblendedCost"],
        "GroupBy": [{"Type": "DIMENSION", "Key": "SERVICE"}],
        "Filter": {
            "And": [
                {"Tags": {"Key": TAG, "Values": [report.deployment], "MatchOptions": ["EQUALS"]}},
                {"Not": {"Dimensions": {"Key": "RECORD_TYPE", "Values": ["Credit", "Refund"]}}},
            ]
        },
    }
    found: dict[str, float] = {}
    try:
        while True:
            page = aws.call("Cost Explorer", client.get_cost_and_usage, **asked)
            for period in page["ResultsByTime"]:
                for group in period["Groups"]:
                    (name,) = group["Keys"]
                    found[name] = found.get(name, 0.0) + float(group["Metrics"]["UnblendedCost"]["Amount"])
            if not page.get("NextPageToken"):
                break
            asked["NextPageToken"] = page["NextPageToken"]
        if found:
            return found
        tags = aws.call("Cost Explorer", client.list_cost_allocation_tags, TagKeys=[TAG])
    finally:
        aws.close()
    if any(each["Status"] == "Active" for each in tags["CostAllocationTags"]):
        raise Failed("Cost Explorer has nothing of this run yet: it is up to two days behind")
    month = time.strftime("%Y-%m-01T00:00:00Z", time.gmtime(report.began))
    raise Failed(
        f"Cost Explorer does not know the tag {TAG!r}: activate it for cost allocation, in the account that "
        "is billed, with 'aws ce update-cost-allocation-tags-status --cost-allocation-tags-status "
        f"TagKey={TAG},Status=Active' and 'aws ce start-cost-allocation-tag-backfill --backfill-from "
        f"{month}', and try again a day later"
    )


# ---- Google Cloud --------------------------------------------------------------------------------


def query(report: Report, project: str, export: str) -> str:
    """The query of the exported data: costs by service, of the hours of a run."""
    moment = "%Y-%m-%dT%H:00:00Z"
    began = time.strftime(moment, time.gmtime(report.began))
    ended = time.strftime(moment, time.gmtime(report.ended + 3600))
    return (
        f"SELECT service.description, SUM(cost) FROM `{export}` WHERE project.id = '{project}' "
        f"AND usage_start_time >= TIMESTAMP('{began}') AND usage_start_time < TIMESTAMP('{ended}') "
        "GROUP BY 1"
    )


def _exported(report: Report, config: Config, export: str) -> dict[str, float]:
    """Dollars by service, of everything in the project, without credits."""
    from faaskeeper.deploy.gcp.rest import Rest
    from faaskeeper.providers.gcp.service import GcpService

    service = GcpService(config)
    asked = query(report, service.project, export or "PROJECT.DATASET.gcp_billing_export_v1_ACCOUNT")
    if not export:
        raise Failed(
            "Google's costs are not available by an API, only by an export to BigQuery, which begins when it "
            "is switched on (https://cloud.google.com/billing/docs/how-to/export-data-bigquery-setup). With "
            f"it, give --export PROJECT.DATASET.TABLE. That asks: {asked}"
        )
    deploy = service.section.get("deploy")
    rest = Rest(service.gcp, str(deploy.get("endpoint", "")) if isinstance(deploy, Mapping) else "")
    try:
        body = {"query": asked, "useLegacySql": False, "timeoutMs": 15_000}
        path = f"bigquery/v2/projects/{export.split('.')[0]}/queries"
        answer, _ = rest.call("bigquery", path, body=body)
    finally:
        rest.close()
        service.gcp.close()
    if not answer.get("jobComplete"):
        raise Failed("BigQuery has not answered within 15 s: try again")
    found = {row["f"][0]["v"]: float(row["f"][1]["v"]) for row in answer.get("rows", ())}
    if not found:
        raise Failed(
            f"{export} has nothing of these hours of {service.project} yet: it is up to a day behind"
        )
    return found
