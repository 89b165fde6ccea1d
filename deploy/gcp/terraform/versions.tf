# FaaSKeeper on Google Cloud. What there is, is listed in ../resources.json.
#
#   terraform init -backend-config=bucket=BUCKET -backend-config=prefix=NAME
#   terraform apply -var project=PROJECT -var deployment=NAME -var code_bucket=BUCKET -var code_object=functions.zip
#
# `fk deploy service OUT.json --provider gcp --config CONFIG.json` does the same, the bucket and the code included.

terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.10"
    }
  }
  backend "gcs" {}
}

provider "google" {
  project = var.project
  region  = var.region
}
