# FaaSKeeper on Google Cloud. ../resources.json lists the resources.
#
#   terraform init -backend-config=bucket=BUCKET -backend-config=prefix=NAME
#   terraform apply -var project=PROJECT -var deployment=NAME -var code_bucket=BUCKET -var code_object=functions.zip
#
# `fk deploy service OUT.json --provider gcp --config CONFIG.json` does the same, including the bucket and the code.

terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "6.50.0" # .terraform.lock.hcl has its checksums
    }
  }
  backend "gcs" {}
}

provider "google" {
  project = var.project
  region  = var.region
}
