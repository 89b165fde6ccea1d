data "google_project" "this" {
  project_id = var.project
}

resource "google_project_service" "service" {
  for_each           = toset(local.resources.services)
  project            = var.project
  service            = each.key
  disable_on_destroy = false
}

# What the names of roles that cannot be used again for weeks after their removal end with. The state keeps it.
resource "terraform_data" "made" {
  input = formatdate("YYYYMMDDhhmmss", plantimestamp())
  lifecycle {
    ignore_changes = [input]
  }
}

# ---- stores ------------------------------------------------------------------------------------

resource "google_firestore_database" "database" {
  for_each                          = local.resources.databases
  project                           = var.project
  name                              = "${var.deployment}${each.value.suffix}"
  location_id                       = var.region
  type                              = "DATASTORE_MODE"
  concurrency_mode                  = "PESSIMISTIC"
  delete_protection_state           = var.protect ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  point_in_time_recovery_enablement = each.value.recover ? "POINT_IN_TIME_RECOVERY_ENABLED" : "POINT_IN_TIME_RECOVERY_DISABLED"
  deletion_policy                   = "DELETE"
  dynamic "cmek_config" {
    for_each = var.kms_key == "" ? [] : [var.kms_key]
    content {
      kms_key_name = cmek_config.value
    }
  }
  depends_on = [google_project_service.service]
}

resource "google_storage_bucket" "data" {
  project                     = var.project
  name                        = "${var.deployment}-data-${var.project}"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.protect
  labels                      = var.labels
  versioning {
    enabled = true
  }
  soft_delete_policy {
    retention_duration_seconds = local.resources.bucket.deleted_seconds
  }
  dynamic "encryption" {
    for_each = var.kms_key == "" ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }
  lifecycle_rule {
    condition {
      days_since_noncurrent_time = local.resources.bucket.replaced_days
      with_state                 = "ARCHIVED"
    }
    action {
      type = "Delete"
    }
  }
  lifecycle_rule {
    condition {
      age = local.resources.bucket.incomplete_upload_days
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }
  depends_on = [google_project_service.service]
}

# ---- queues ------------------------------------------------------------------------------------

resource "google_pubsub_topic" "topic" {
  for_each     = toset(local.resources.topics)
  project      = var.project
  name         = "${var.deployment}-${each.key}"
  labels       = var.labels
  kms_key_name = var.kms_key == "" ? null : var.kms_key
  depends_on   = [google_project_service.service]
}

resource "google_pubsub_subscription" "push" {
  for_each                   = local.resources.pushes
  project                    = var.project
  name                       = "${var.deployment}-${each.key}"
  labels                     = var.labels
  topic                      = google_pubsub_topic.topic[each.key].id
  ack_deadline_seconds       = local.resources.push.ack_seconds
  message_retention_duration = "${local.resources.push.retention_seconds}s"
  enable_message_ordering    = local.ordered[each.key]
  expiration_policy {
    ttl = ""
  }
  retry_policy {
    minimum_backoff = "${local.resources.push.least_backoff_seconds}s"
    maximum_backoff = "${local.resources.push.most_backoff_seconds}s"
  }
  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.topic["dead"].id
    max_delivery_attempts = local.resources.push.attempts
  }
  push_config {
    push_endpoint = google_cloudfunctions2_function.function[each.value.function].service_config[0].uri
    oidc_token {
      service_account_email = google_service_account.account["push"].email
      audience              = google_cloudfunctions2_function.function[each.value.function].service_config[0].uri
    }
  }
}

resource "google_pubsub_subscription" "dead" {
  project                    = var.project
  name                       = "${var.deployment}-dead"
  labels                     = var.labels
  topic                      = google_pubsub_topic.topic["dead"].id
  message_retention_duration = "${local.resources.dead.retention_seconds}s"
  expiration_policy {
    ttl = ""
  }
}

# Pub/Sub's own agent moves dead letters.
resource "google_pubsub_topic_iam_member" "dead" {
  project = var.project
  topic   = google_pubsub_topic.topic["dead"].name
  role    = "roles/pubsub.publisher"
  member  = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

resource "google_pubsub_subscription_iam_member" "dead" {
  for_each     = local.resources.pushes
  project      = var.project
  subscription = google_pubsub_subscription.push[each.key].name
  role         = "roles/pubsub.subscriber"
  member       = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

# ---- permissions -------------------------------------------------------------------------------

resource "google_service_account" "account" {
  for_each     = local.resources.accounts
  project      = var.project
  account_id   = "${var.deployment}-${each.key}"
  display_name = "FaaSKeeper ${var.deployment}: ${each.value}"
  depends_on   = [google_project_service.service]
}

# Pub/Sub cannot bind a right to subscriptions that do not exist yet. What a client may subscribe to is bound: to one topic.
resource "google_project_iam_custom_role" "listener" {
  count       = var.client_channel == "pubsub" && var.listener_role == "" ? 1 : 0
  project     = var.project
  role_id     = "faaskeeper_${replace(var.deployment, "-", "_")}_listener_${terraform_data.made.output}"
  title       = "FaaSKeeper ${var.deployment}: a client's subscription"
  permissions = local.resources.listener_permissions
}

resource "google_project_iam_member" "database" {
  for_each = { for key, each in local.grants : key => each if each.on == "database" }
  project  = var.project
  role     = each.value.role
  member   = "serviceAccount:${google_service_account.account[each.value.account].email}"
  condition {
    title      = "${var.deployment} ${each.value.name}"
    expression = "resource.name == \"projects/${var.project}/databases/${local.databases[each.value.name]}\""
  }
}

resource "google_project_iam_member" "listener" {
  for_each = { for key, each in local.grants : key => each if each.on == "listener" && var.client_channel == "pubsub" }
  project  = var.project
  role     = var.listener_role == "" ? google_project_iam_custom_role.listener[0].id : var.listener_role
  member   = "serviceAccount:${google_service_account.account[each.value.account].email}"
}

resource "google_project_iam_member" "project" {
  for_each = { for key, each in local.grants : key => each if each.on == "project" }
  project  = var.project
  role     = each.value.role
  member   = "serviceAccount:${google_service_account.account[each.value.account].email}"
}

# Cloud Functions copies the code into a bucket of its own, from which Cloud Build takes it.
resource "google_project_iam_member" "sources" {
  for_each = { for key, each in local.grants : key => each if each.on == "sources" }
  project  = var.project
  role     = each.value.role
  member   = "serviceAccount:${google_service_account.account[each.value.account].email}"
  condition {
    title      = "${var.deployment} ${each.value.name}"
    expression = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-${data.google_project.this.number}-${var.region}\") || resource.name.startsWith(\"projects/_/buckets/${var.code_bucket}/objects/functions\")"
  }
}

resource "google_artifact_registry_repository_iam_member" "images" {
  for_each   = { for key, each in local.grants : key => each if each.on == "repository" }
  project    = var.project
  location   = var.region
  repository = google_artifact_registry_repository.images.name
  role       = each.value.role
  member     = "serviceAccount:${google_service_account.account[each.value.account].email}"
}

resource "google_pubsub_topic_iam_member" "publisher" {
  for_each = { for key, each in local.grants : key => each if each.on == "topic" }
  project  = var.project
  topic    = google_pubsub_topic.topic[each.value.name].name
  role     = each.value.role
  member   = "serviceAccount:${google_service_account.account[each.value.account].email}"
}

resource "google_storage_bucket_iam_member" "data" {
  for_each = { for key, each in local.grants : key => each if each.on == "bucket" }
  bucket   = google_storage_bucket.data.name
  role     = each.value.role
  member   = "serviceAccount:${google_service_account.account[each.value.account].email}"
}

resource "google_cloud_run_v2_service_iam_member" "invoker" {
  for_each = { for key, each in local.grants : key => each if each.on == "function" }
  project  = var.project
  location = var.region
  name     = google_cloudfunctions2_function.function[each.value.name].name
  role     = each.value.role
  member   = "serviceAccount:${google_service_account.account[each.value.account].email}"
}

# ---- functions ---------------------------------------------------------------------------------

resource "google_artifact_registry_repository" "images" {
  project       = var.project
  location      = var.region
  repository_id = "${var.deployment}-functions"
  description   = "FaaSKeeper ${var.deployment}: images of the functions"
  format        = "DOCKER"
  labels        = var.labels
  kms_key_name  = var.kms_key == "" ? null : var.kms_key
  cleanup_policies {
    id     = "keep-latest"
    action = "KEEP"
    most_recent_versions {
      keep_count = local.resources.images.kept
    }
  }
  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "${local.resources.images.older_seconds}s"
    }
  }
  depends_on = [google_project_service.service]
}

resource "google_cloudfunctions2_function" "function" {
  for_each     = local.resources.functions
  project      = var.project
  location     = var.region
  name         = "${var.deployment}-${each.key}"
  description  = "FaaSKeeper: ${each.value.about}"
  labels       = var.labels
  kms_key_name = var.kms_key == "" ? null : var.kms_key
  build_config {
    runtime           = local.resources.runtime
    entry_point       = each.key
    service_account   = google_service_account.account["build"].name
    docker_repository = google_artifact_registry_repository.images.id
    source {
      storage_source {
        bucket = var.code_bucket
        object = var.code_object
      }
    }
  }
  service_config {
    service_account_email            = google_service_account.account[each.key].email
    available_memory                 = "${each.value.memory_mb}Mi"
    available_cpu                    = "1"
    timeout_seconds                  = each.value.timeout_seconds
    max_instance_count               = each.value.instances
    min_instance_count               = each.key == "writer" ? var.warm_writers : 0
    max_instance_request_concurrency = each.value.concurrency
    ingress_settings                 = "ALLOW_INTERNAL_ONLY"
    vpc_connector                    = var.vpc_connector == "" ? null : var.vpc_connector
    vpc_connector_egress_settings    = var.vpc_connector == "" ? null : var.vpc_egress
    environment_variables = {
      FAASKEEPER_CONFIG    = local.configuration
      FAASKEEPER_LOG_LEVEL = var.log_level
      FAASKEEPER_TIMEOUT_S = tostring(each.value.timeout_seconds)
      THREADS              = tostring(each.value.concurrency)
    }
  }
  depends_on = [
    google_project_service.service,
    google_project_iam_member.database,
    google_project_iam_member.project,
    google_project_iam_member.sources,
    google_artifact_registry_repository_iam_member.images,
    google_firestore_database.database,
  ]
}

resource "google_cloud_scheduler_job" "job" {
  for_each         = local.resources.jobs
  project          = var.project
  region           = var.region
  name             = "${var.deployment}-${each.key}"
  schedule         = each.value.schedule == "" ? local.heartbeat_schedule : each.value.schedule
  attempt_deadline = "${local.resources.functions[each.value.function].timeout_seconds}s"
  http_target {
    http_method = "POST"
    uri         = google_cloudfunctions2_function.function[each.value.function].service_config[0].uri
    body        = base64encode(each.value.body)
    headers     = { "Content-Type" = "application/json" }
    oidc_token {
      service_account_email = google_service_account.account["push"].email
      audience              = google_cloudfunctions2_function.function[each.value.function].service_config[0].uri
    }
  }
}

# ---- monitoring --------------------------------------------------------------------------------

resource "google_monitoring_alert_policy" "alert" {
  for_each              = { for key, each in local.resources.alerts : key => each if var.monitoring }
  project               = var.project
  display_name          = "FaaSKeeper ${var.deployment}: ${each.key}"
  combiner              = "OR"
  notification_channels = var.notification_channels
  user_labels           = var.labels
  documentation {
    content   = replace(each.value.about, "NAME", var.deployment)
    mime_type = "text/markdown"
  }
  dynamic "conditions" {
    for_each = [for one in each.value.conditions : one if can(one.above)]
    content {
      display_name = replace(each.value.about, "NAME", var.deployment)
      condition_threshold {
        filter          = replace(conditions.value.filter, "{name}", var.deployment)
        comparison      = "COMPARISON_GT"
        threshold_value = conditions.value.above
        duration        = "${conditions.value.seconds}s"
        aggregations {
          alignment_period     = "${conditions.value.period_seconds}s"
          per_series_aligner   = conditions.value.aligner
          cross_series_reducer = local.reducers[conditions.value.aligner]
        }
      }
    }
  }
  dynamic "conditions" {
    for_each = [for one in each.value.conditions : one if can(one.absent_beats)]
    content {
      display_name = replace(each.value.about, "NAME", var.deployment)
      condition_absent {
        filter   = replace(conditions.value.filter, "{name}", var.deployment)
        duration = "${local.absent_seconds[conditions.value.absent_beats]}s"
        aggregations {
          alignment_period     = "${conditions.value.period_seconds}s"
          per_series_aligner   = conditions.value.aligner
          cross_series_reducer = local.reducers[conditions.value.aligner]
        }
      }
    }
  }
  depends_on = [google_project_service.service]
}

resource "google_monitoring_dashboard" "dashboard" {
  count          = var.monitoring ? 1 : 0
  project        = var.project
  dashboard_json = jsonencode(local.dashboard)
  depends_on     = [google_project_service.service]
}
