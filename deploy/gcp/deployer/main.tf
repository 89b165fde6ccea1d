# The account that deploys FaaSKeeper, with the rights that this takes: an administrator of the project applies it once.
#
#   terraform init
#   terraform apply -var project=PROJECT -var deployment=NAME -var member=serviceAccount:ci@PROJECT.iam.gserviceaccount.com
#
# It also makes the role of clients that listen, so that the deployer needs no right to make roles: its name, an output,
# goes into the configuration, as gcp.deploy.listener_role.

terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "6.50.0" # .terraform.lock.hcl has its checksums
    }
  }
}

provider "google" {
  project = var.project
}

variable "project" {
  description = "Id of the project."
  type        = string
}

variable "deployment" {
  description = "Name of the deployment."
  type        = string
}

variable "member" {
  description = "Who deploys: user:ADDRESS, group:ADDRESS or serviceAccount:ADDRESS."
  type        = string
}

locals {
  deployer  = jsondecode(file("${path.module}/../deployer.json"))
  resources = jsondecode(file("${path.module}/../resources.json"))

  databases = [for each in values(local.resources.databases) : "projects/${var.project}/databases/${var.deployment}${each.suffix}"]
  buckets   = [for each in ["data", "deploy"] : "projects/_/buckets/${var.deployment}-${each}-${var.project}"]

  conditions = {
    databases = join(" || ", [for each in local.databases : "resource.name == \"${each}\""])
    settings  = "resource.name == \"projects/${var.project}/databases/${var.deployment}${local.resources.databases.private.suffix}\""
    buckets   = join(" || ", [for each in local.buckets : "resource.name == \"${each}\" || resource.name.startsWith(\"${each}/\")"])
  }

  # What the deployer may give to the deployment's accounts, on the project.
  grantable = sort(distinct([for each in local.resources.grants : each.role if contains(["database", "project", "sources"], each.on)]))
}

# A role's name cannot be used again for weeks after its removal.
resource "terraform_data" "made" {
  input = formatdate("YYYYMMDDhhmmss", plantimestamp())
  lifecycle {
    ignore_changes = [input]
  }
}

resource "google_project_iam_custom_role" "deployer" {
  for_each    = local.deployer.roles
  project     = var.project
  role_id     = "faaskeeper_${replace(var.deployment, "-", "_")}_deployer_${each.key}_${terraform_data.made.output}"
  title       = "FaaSKeeper ${var.deployment}: deploying, ${each.key}"
  permissions = each.value
}

resource "google_project_iam_custom_role" "listener" {
  project     = var.project
  role_id     = "faaskeeper_${replace(var.deployment, "-", "_")}_listener_${terraform_data.made.output}"
  title       = "FaaSKeeper ${var.deployment}: a client's subscription"
  permissions = local.resources.listener_permissions
}

resource "google_project_iam_member" "deployer" {
  for_each = local.deployer.roles
  project  = var.project
  role     = google_project_iam_custom_role.deployer[each.key].id
  member   = var.member
  dynamic "condition" {
    for_each = contains(keys(local.conditions), each.key) ? [local.conditions[each.key]] : []
    content {
      title      = "${var.deployment} ${each.key}"
      expression = condition.value
    }
  }
}

# It may change who has these roles, and no others.
resource "google_project_iam_member" "grants" {
  project = var.project
  role    = "roles/resourcemanager.projectIamAdmin"
  member  = var.member
  condition {
    title      = "${var.deployment} grants"
    expression = "api.getAttribute(\"iam.googleapis.com/modifiedGrantsByRole\", []).hasOnly(${jsonencode(concat(local.grantable, [google_project_iam_custom_role.listener.id]))})"
  }
}

output "listener_role" {
  description = "For the configuration, as gcp.deploy.listener_role."
  value       = google_project_iam_custom_role.listener.id
}
