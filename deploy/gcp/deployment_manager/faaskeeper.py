"""FaaSKeeper on Google Cloud, for Deployment Manager: what resources.json lists, by its properties.

For estates that still have Deployment Manager, whose support by Google ended on 31 March 2026.

    gcloud deployment-manager deployments create NAME --config faaskeeper.yaml
"""

import base64
import json

REDUCERS = {
    "ALIGN_DELTA": "REDUCE_SUM",
    "ALIGN_MAX": "REDUCE_MAX",
    "ALIGN_PERCENTILE_95": "REDUCE_MAX",
    "ALIGN_RATE": "REDUCE_SUM",
}


def GenerateConfig(context):
    """The resources, as Deployment Manager asks for them."""
    made = _Expansion(
        json.loads(context.imports["resources.json"]),
        dict(context.properties),
        context.env["project"],
        context.env["project_number"],
    )
    return {"resources": made.resources(), "outputs": made.outputs()}


class _Expansion:
    def __init__(self, described, properties, project, number):
        self.described = described
        self.project = project
        self.number = number
        self.agent = f"serviceAccount:service-{number}@gcp-sa-pubsub.iam.gserviceaccount.com"
        self.name = properties["deployment"]
        self.region = properties["region"]
        self.properties = properties
        self.bucket = f"{self.name}-data-{project}"
        self.labels = {"labels": properties["labels"]} if properties["labels"] else {}
        self.key = {"kmsKeyName": properties["kmsKey"]} if properties["kmsKey"] else {}

    # ---- names -----------------------------------------------------------------------------

    def topic(self, short):
        return f"projects/{self.project}/topics/{self.name}-{short}"

    def member(self, account):
        return f"serviceAccount:{self.name}-{account}@{self.project}.iam.gserviceaccount.com"

    def uri(self, function):
        return f"$(ref.{self.name}-function-{function}.serviceConfig.uri)"

    def grants(self, on):
        return [each for each in self.described["grants"] if each["on"] == on]

    # ---- resources -------------------------------------------------------------------------

    def resources(self):
        """All resources; each waits for the services, and for what it names."""
        services = [f"{self.name}-service-{each}" for each in self.described["services"]]
        found = list(self.services())
        for make in (
            self.accounts, self.databases, self.data, self.topics, self.images, self.functions, self.pushes,
            self.dead, self.jobs, self.rights, self.invokers, self.alerts, self.dashboard,
        ):  # fmt: skip
            for each in make():
                metadata = each.setdefault("metadata", {})
                metadata["dependsOn"] = [*services, *metadata.get("dependsOn", [])]
                found.append(each)
        return found

    def services(self):
        for each in self.described["services"]:
            yield {
                "name": f"{self.name}-service-{each}",
                "type": "deploymentmanager.v2.virtual.enableService",
                "properties": {"consumerId": f"project:{self.project}", "serviceName": each},
            }

    def accounts(self):
        for short, about in self.described["accounts"].items():
            yield {
                "name": f"{self.name}-account-{short}",
                "type": "iam.v1.serviceAccount",
                "properties": {
                    "accountId": f"{self.name}-{short}",
                    "displayName": f"FaaSKeeper {self.name}: {about}",
                },
            }

    def databases(self):
        protect = "ENABLED" if self.properties["protect"] else "DISABLED"
        for short, each in self.described["databases"].items():
            yield {
                "name": f"{self.name}-database-{short}",
                "type": "gcp-types/firestore-v1:projects.databases",
                "properties": {
                    "parent": f"projects/{self.project}",
                    "databaseId": f"{self.name}{each['suffix']}",
                    "locationId": self.region,
                    "type": "DATASTORE_MODE",
                    "concurrencyMode": "PESSIMISTIC",
                    "deleteProtectionState": f"DELETE_PROTECTION_{protect}",
                    "pointInTimeRecoveryEnablement": (
                        f"POINT_IN_TIME_RECOVERY_{'ENABLED' if each['recover'] else 'DISABLED'}"
                    ),
                    **({"cmekConfig": self.key} if self.key else {}),
                },
            }

    def policy(self, on, name=None, more=()):
        """The grants on a resource, as a policy; ``more``: further roles and members."""
        bindings = {}
        for each in self.grants(on):
            if name in (None, each["name"]):
                bindings.setdefault(each["role"], []).append(self.member(each["account"]))
        for role, member in more:
            bindings.setdefault(role, []).append(member)
        found = [{"role": role, "members": members} for role, members in bindings.items()]
        return {"gcpIamPolicy": {"bindings": found}}

    def data(self):
        bucket = self.described["bucket"]
        yield {
            "name": f"{self.name}-bucket-data",
            "type": "gcp-types/storage-v1:buckets",
            "properties": {
                "project": self.project,
                "name": self.bucket,
                "location": self.region,
                "iamConfiguration": {
                    "uniformBucketLevelAccess": {"enabled": True},
                    "publicAccessPrevention": "enforced",
                },
                "versioning": {"enabled": True},
                "softDeletePolicy": {"retentionDurationSeconds": bucket["deleted_seconds"]},
                "lifecycle": {
                    "rule": [
                        {
                            "action": {"type": "Delete"},
                            "condition": {
                                "daysSinceNoncurrentTime": bucket["replaced_days"],
                                "isLive": False,
                            },
                        },
                        {
                            "action": {"type": "AbortIncompleteMultipartUpload"},
                            "condition": {"age": bucket["incomplete_upload_days"]},
                        },
                    ]
                },
                **({"encryption": {"defaultKmsKeyName": self.key["kmsKeyName"]}} if self.key else {}),
                **self.labels,
            },
            "accessControl": self.policy("bucket"),
            "metadata": {"dependsOn": self.known_accounts()},
        }

    def known_accounts(self):
        return [f"{self.name}-account-{each}" for each in self.described["accounts"]]

    def topics(self):
        for short in self.described["topics"]:
            more = [("roles/pubsub.publisher", self.agent)] if short == "dead" else ()
            yield {
                "name": f"{self.name}-topic-{short}",
                "type": "gcp-types/pubsub-v1:projects.topics",
                "properties": {"name": self.topic(short), **self.key, **self.labels},
                "accessControl": self.policy("topic", short, more),
                "metadata": {"dependsOn": self.known_accounts()},
            }

    def pushes(self):
        push = self.described["push"]
        for short, each in self.described["pushes"].items():
            queue = {"worker": "workerQueue", "distributor": "distributorQueue"}.get(short)
            yield {
                "name": f"{self.name}-push-{short}",
                "type": "gcp-types/pubsub-v1:projects.subscriptions",
                "properties": {
                    "name": f"projects/{self.project}/subscriptions/{self.name}-{short}",
                    "topic": self.topic(short),
                    **self.labels,
                    "ackDeadlineSeconds": push["ack_seconds"],
                    "messageRetentionDuration": f"{push['retention_seconds']}s",
                    "enableMessageOrdering": bool(queue) and self.properties[queue] == "pubsub-ordered",
                    "expirationPolicy": {},
                    "retryPolicy": {
                        "minimumBackoff": f"{push['least_backoff_seconds']}s",
                        "maximumBackoff": f"{push['most_backoff_seconds']}s",
                    },
                    "deadLetterPolicy": {
                        "deadLetterTopic": self.topic("dead"),
                        "maxDeliveryAttempts": push["attempts"],
                    },
                    "pushConfig": {
                        "pushEndpoint": self.uri(each["function"]),
                        "oidcToken": {
                            "serviceAccountEmail": self.member("push").split(":")[1],
                            "audience": self.uri(each["function"]),
                        },
                    },
                },
                "accessControl": {
                    "gcpIamPolicy": {
                        "bindings": [{"role": "roles/pubsub.subscriber", "members": [self.agent]}]
                    }
                },
                "metadata": {
                    "dependsOn": [
                        f"{self.name}-topic-{short}",
                        f"{self.name}-topic-dead",
                        f"{self.name}-account-push",
                    ]
                },
            }

    def dead(self):
        yield {
            "name": f"{self.name}-subscription-dead",
            "type": "gcp-types/pubsub-v1:projects.subscriptions",
            "properties": {
                "name": f"projects/{self.project}/subscriptions/{self.name}-dead",
                "topic": self.topic("dead"),
                **self.labels,
                "messageRetentionDuration": f"{self.described['dead']['retention_seconds']}s",
                "expirationPolicy": {},
            },
            "metadata": {"dependsOn": [f"{self.name}-topic-dead"]},
        }

    # ---- functions -------------------------------------------------------------------------

    def images(self):
        images = self.described["images"]
        yield {
            "name": f"{self.name}-repository-images",
            "type": "gcp-types/artifactregistry-v1:projects.locations.repositories",
            "properties": {
                "parent": f"projects/{self.project}/locations/{self.region}",
                "repositoryId": f"{self.name}-functions",
                "description": f"FaaSKeeper {self.name}: images of the functions",
                "format": "DOCKER",
                "cleanupPolicies": {
                    "keep-latest": {
                        "id": "keep-latest",
                        "action": "KEEP",
                        "mostRecentVersions": {"keepCount": images["kept"]},
                    },
                    "delete-old": {
                        "id": "delete-old",
                        "action": "DELETE",
                        "condition": {"olderThan": f"{images['older_seconds']}s"},
                    },
                },
                **self.key,
                **self.labels,
            },
            "accessControl": self.policy("repository"),
            "metadata": {"dependsOn": self.known_accounts()},
        }

    def configuration(self):
        """What the functions know of the deployment, as the configuration of a client has it."""
        chosen = self.properties
        return {
            "cloud-provider": "gcp",
            "deployment-name": self.name,
            "deployment-region": self.region,
            "user-storage": chosen["userStorage"],
            "worker-queue": chosen["workerQueue"],
            "distributor-queue": chosen["distributorQueue"],
            "client-channel": chosen["clientChannel"],
            "configuration": {
                "benchmarking": chosen["benchmarking"] > 0,
                "benchmarking-frequency": max(chosen["benchmarking"], 1),
            },
            "gcp": {
                "project-id": self.project,
                "data-bucket": self.bucket,
                "watch-topic": f"{self.name}-watch" if chosen["watchFunction"] == "own" else "",
                "client-networks": chosen["clientNetworks"],
            },
        }

    def functions(self):
        parent = f"projects/{self.project}/locations/{self.region}"
        for short, each in self.described["functions"].items():
            service = {
                "serviceAccountEmail": self.member(short).split(":")[1],
                "availableMemory": f"{each['memory_mb']}Mi",
                "availableCpu": "1",
                "timeoutSeconds": each["timeout_seconds"],
                "maxInstanceCount": each["instances"],
                "minInstanceCount": self.properties["warmWriters"] if short == "writer" else 0,
                "maxInstanceRequestConcurrency": each["concurrency"],
                "ingressSettings": "ALLOW_INTERNAL_ONLY",
                "environmentVariables": {
                    "FAASKEEPER_CONFIG": json.dumps(self.configuration()),
                    "FAASKEEPER_LOG_LEVEL": self.properties["logLevel"],
                    "FAASKEEPER_TIMEOUT_S": str(each["timeout_seconds"]),
                    "THREADS": str(each["concurrency"]),
                },
            }
            if self.properties["vpcConnector"]:
                service["vpcConnector"] = self.properties["vpcConnector"]
                service["vpcConnectorEgressSettings"] = self.properties["vpcEgress"]
            yield {
                "name": f"{self.name}-function-{short}",
                "type": "gcp-types/cloudfunctions-v2:projects.locations.functions",
                "properties": {
                    "parent": parent,
                    "functionId": f"{self.name}-{short}",
                    "environment": "GEN_2",
                    "description": f"FaaSKeeper: {each['about']}",
                    **self.key,
                    **self.labels,
                    "buildConfig": {
                        "runtime": self.described["runtime"],
                        "entryPoint": short,
                        "serviceAccount": (
                            f"projects/{self.project}/serviceAccounts/{self.member('build').split(':')[1]}"
                        ),
                        "dockerRepository": f"{parent}/repositories/{self.name}-functions",
                        "source": {
                            "storageSource": {
                                "bucket": self.properties["codeBucket"],
                                "object": self.properties["codeObject"],
                            }
                        },
                    },
                    "serviceConfig": service,
                },
                "metadata": {
                    "dependsOn": [
                        f"{self.name}-account-{short}",
                        *(f"{self.name}-database-{each}" for each in self.described["databases"]),
                        *(each["name"] for each in self.database_rights() if f"-{short}-" in each["name"]),
                        f"{self.name}-account-build",
                        f"{self.name}-repository-images",
                        *(each["name"] for each in self.build_rights()),
                    ]
                },
            }

    def heartbeat_schedule(self):
        """Valid for any number of minutes; where a unit is not divided evenly, a run comes early."""
        minutes = self.properties["heartbeatMinutes"]
        if minutes < 60:
            return f"*/{minutes} * * * *"
        if minutes < 1440:
            return f"0 */{minutes // 60} * * *"
        return f"0 0 */{min(minutes // 1440, 31)} * *"

    def jobs(self):
        parent = f"projects/{self.project}/locations/{self.region}"
        for short, each in self.described["jobs"].items():
            timeout = self.described["functions"][each["function"]]["timeout_seconds"]
            yield {
                "name": f"{self.name}-job-{short}",
                "type": "gcp-types/cloudscheduler-v1:projects.locations.jobs",
                "properties": {
                    "parent": parent,
                    "name": f"{parent}/jobs/{self.name}-{short}",
                    "schedule": each["schedule"] or self.heartbeat_schedule(),
                    "attemptDeadline": f"{timeout}s",
                    "httpTarget": {
                        "httpMethod": "POST",
                        "uri": self.uri(each["function"]),
                        "body": base64.b64encode(each["body"].encode()).decode(),
                        "headers": {"Content-Type": "application/json"},
                        "oidcToken": {
                            "serviceAccountEmail": self.member("push").split(":")[1],
                            "audience": self.uri(each["function"]),
                        },
                    },
                },
                "metadata": {"dependsOn": [f"{self.name}-account-push"]},
            }

    # ---- permissions -----------------------------------------------------------------------

    def rights(self):
        listens = self.properties["clientChannel"] == "pubsub"
        role = self.properties["listenerRole"]
        if listens and not role:
            # a role's name cannot be used again for weeks after its removal
            suffix = f"_{self.properties['made']}" if self.properties["made"] else ""
            role = f"$(ref.{self.name}-role-listener.name)"
            yield {
                "name": f"{self.name}-role-listener",
                "type": "gcp-types/iam-v1:projects.roles",
                "properties": {
                    "parent": f"projects/{self.project}",
                    "roleId": f"faaskeeper_{self.name.replace('-', '_')}_listener{suffix}",
                    "role": {
                        "title": f"FaaSKeeper {self.name}: a client's subscription",
                        "includedPermissions": self.described["listener_permissions"],
                    },
                },
            }
        yield from self.database_rights()
        yield from self.build_rights()
        if listens:
            for each in self.grants("listener"):
                yield {
                    "name": f"{self.name}-right-{each['account']}-listener",
                    "type": "gcp-types/cloudresourcemanager-v1:virtual.projects.iamMemberBinding",
                    "properties": {
                        "resource": self.project,
                        "role": role,
                        "member": self.member(each["account"]),
                    },
                    "metadata": {"dependsOn": [f"{self.name}-account-{each['account']}"]},
                }

    def build_rights(self):
        buckets = (
            f"gcf-v2-sources-{self.number}-{self.region}",
            f"{self.properties['codeBucket']}/objects/functions",
        )
        where = " || ".join(f'resource.name.startsWith("projects/_/buckets/{each}")' for each in buckets)
        for each in (*self.grants("project"), *self.grants("sources")):
            right = {
                "name": f"{self.name}-right-{each['account']}-{each['name']}",
                "type": "gcp-types/cloudresourcemanager-v1:virtual.projects.iamMemberBinding",
                "properties": {
                    "resource": self.project,
                    "role": each["role"],
                    "member": self.member(each["account"]),
                },
                "metadata": {"dependsOn": [f"{self.name}-account-{each['account']}"]},
            }
            if each["on"] == "sources":
                title = f"{self.name} {each['name']}"
                right["properties"]["condition"] = {"title": title, "expression": where}
            yield right

    def database_rights(self):
        for each in self.grants("database"):
            database = f"{self.name}{self.described['databases'][each['name']]['suffix']}"
            where = f"projects/{self.project}/databases/{database}"
            yield {
                "name": f"{self.name}-right-{each['account']}-{each['name']}",
                "type": "gcp-types/cloudresourcemanager-v1:virtual.projects.iamMemberBinding",
                "properties": {
                    "resource": self.project,
                    "role": each["role"],
                    "member": self.member(each["account"]),
                    "condition": {
                        "title": f"{self.name} {each['name']}",
                        "expression": f'resource.name == "{where}"',
                    },
                },
                "metadata": {"dependsOn": [f"{self.name}-account-{each['account']}"]},
            }

    def invokers(self):
        for each in self.grants("function"):
            service = f"projects/{self.project}/locations/{self.region}/services/{self.name}-{each['name']}"
            yield {
                "name": f"{self.name}-invoker-{each['name']}",
                "action": "gcp-types/run-v1:run.projects.locations.services.setIamPolicy",
                "properties": {
                    "resource": service,
                    "policy": {
                        "bindings": [{"role": each["role"], "members": [self.member(each["account"])]}]
                    },
                },
                "metadata": {
                    "dependsOn": [
                        f"{self.name}-function-{each['name']}",
                        f"{self.name}-account-{each['account']}",
                    ],
                    "runtimePolicy": ["UPDATE_ALWAYS"],
                },
            }

    # ---- monitoring ------------------------------------------------------------------------

    def aggregation(self, aligner, seconds):
        return {
            "alignmentPeriod": f"{seconds}s",
            "perSeriesAligner": aligner,
            "crossSeriesReducer": REDUCERS[aligner],
        }

    def condition(self, about, each):
        made = {
            "filter": each["filter"].replace("{name}", self.name),
            "aggregations": [self.aggregation(each["aligner"], each["period_seconds"])],
        }
        if "above" in each:
            made["comparison"] = "COMPARISON_GT"
            made["thresholdValue"] = each["above"]
            made["duration"] = f"{each['seconds']}s"
            return {"displayName": about, "conditionThreshold": made}
        absence = self.described["absence"]
        seconds = each["absent_beats"] * self.properties["heartbeatMinutes"] * 60
        made["duration"] = f"{min(max(seconds, absence['least_seconds']), absence['most_seconds'])}s"
        return {"displayName": about, "conditionAbsent": made}

    def alerts(self):
        for short, each in self.described["alerts"].items() if self.properties["monitoring"] else ():
            about = each["about"].replace("NAME", self.name)
            yield {
                "name": f"{self.name}-alert-{short}",
                "type": "gcp-types/monitoring-v3:projects.alertPolicies",
                "properties": {
                    "name": f"projects/{self.project}",
                    "displayName": f"FaaSKeeper {self.name}: {short}",
                    "combiner": "OR",
                    "notificationChannels": self.properties["notificationChannels"],
                    "userLabels": self.properties["labels"],
                    "documentation": {
                        "content": about,
                        "mimeType": "text/markdown",
                    },
                    "conditions": [self.condition(about, one) for one in each["conditions"]],
                },
            }

    def dashboard(self):
        if not self.properties["monitoring"]:
            return
        widgets = []
        for each in self.described["charts"]:
            aggregation = {**self.aggregation(each["aligner"], 60), "groupByFields": [each["by"]]}
            chosen = {"filter": each["filter"].replace("{name}", self.name), "aggregation": aggregation}
            series = {"plotType": "LINE", "timeSeriesQuery": {"timeSeriesFilter": chosen}}
            widgets.append({"title": each["title"], "xyChart": {"dataSets": [series]}})
        yield {
            "name": f"{self.name}-dashboard",
            "type": "gcp-types/monitoring-v1:projects.dashboards",
            "properties": {
                "parent": f"projects/{self.project}",
                "displayName": f"FaaSKeeper {self.name}",
                "gridLayout": {"columns": "2", "widgets": widgets},
            },
        }

    def outputs(self):
        return [
            {"name": "user_storage", "value": self.properties["userStorage"]},
            {"name": "data_bucket", "value": self.bucket},
            {"name": "worker_topic", "value": f"{self.name}-worker"},
        ]
