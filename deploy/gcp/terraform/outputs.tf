output "user_storage" {
  description = "It cannot be changed: stored data would be lost."
  value       = var.user_storage
}

output "data_bucket" {
  description = "For the client configuration, as gcp.data-bucket."
  value       = google_storage_bucket.data.name
}

output "worker_topic" {
  description = "For the client configuration, as gcp.worker-topic."
  value       = google_pubsub_topic.topic["worker"].name
}

output "accounts" {
  description = "Service accounts for clients, and for clients with direct writers (direct)."
  value = {
    client = google_service_account.account["client"].email
    direct = google_service_account.account["direct"].email
  }
}
