locals {
  resources = jsondecode(file("${path.module}/../resources.json"))

  databases = { for key, each in local.resources.databases : key => "${var.deployment}${each.suffix}" }

  # The functions' configuration of the deployment, with the keys of a client's.
  configuration = jsonencode({
    "cloud-provider"    = "gcp"
    "deployment-name"   = var.deployment
    "deployment-region" = var.region
    "user-storage"      = var.user_storage
    "worker-queue"      = var.worker_queue
    "distributor-queue" = var.distributor_queue
    "client-channel"    = var.client_channel
    "configuration" = {
      "benchmarking"           = var.benchmarking > 0
      "benchmarking-frequency" = max(var.benchmarking, 1)
    }
    "gcp" = {
      "project-id"      = var.project
      "data-bucket"     = "${var.deployment}-data-${var.project}"
      "watch-topic"     = var.watch_function == "own" ? "${var.deployment}-watch" : ""
      "client-networks" = var.client_networks
    }
  })

  ordered = {
    worker      = var.worker_queue == "pubsub-ordered"
    distributor = var.distributor_queue == "pubsub-ordered"
    watch       = false
  }

  # Valid for any number of minutes; where a unit is not divided evenly, a run comes early.
  heartbeat_schedule = (
    var.heartbeat_minutes < 60 ? "*/${var.heartbeat_minutes} * * * *" :
    var.heartbeat_minutes < 1440 ? "0 */${floor(var.heartbeat_minutes / 60)} * * *" :
    "0 0 */${min(floor(var.heartbeat_minutes / 1440), 31)} * *"
  )

  # By the number of heartbeats in a row that do not come.
  absent_seconds = {
    for beats in [1, 2, 3] : beats => min(
      max(beats * var.heartbeat_minutes * 60, local.resources.absence.least_seconds),
      local.resources.absence.most_seconds,
    )
  }

  reducers = {
    ALIGN_DELTA         = "REDUCE_SUM"
    ALIGN_MAX           = "REDUCE_MAX"
    ALIGN_PERCENTILE_95 = "REDUCE_MAX"
    ALIGN_RATE          = "REDUCE_SUM"
  }

  dashboard = {
    displayName = "FaaSKeeper ${var.deployment}"
    gridLayout = {
      columns = "2"
      widgets = [for each in local.resources.charts : {
        title = each.title
        xyChart = {
          dataSets = [{
            plotType = "LINE"
            timeSeriesQuery = {
              timeSeriesFilter = {
                filter = replace(each.filter, "{name}", var.deployment)
                aggregation = {
                  alignmentPeriod    = "60s"
                  perSeriesAligner   = each.aligner
                  crossSeriesReducer = local.reducers[each.aligner]
                  groupByFields      = [each.by]
                }
              }
            }
          }]
        }
      }]
    }
  }

  grants = { for each in local.resources.grants : "${each.account} ${each.on} ${each.name} ${each.role}" => each }
}
