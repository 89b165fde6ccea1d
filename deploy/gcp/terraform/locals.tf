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

  grants = { for each in local.resources.grants : "${each.account} ${each.on} ${each.name} ${each.role}" => each }
}
