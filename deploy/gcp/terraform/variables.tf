variable "project" {
  description = "Id of the project."
  type        = string
}

variable "deployment" {
  description = "Name of the deployment and prefix of all resource names."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,16}[a-z0-9]$", var.deployment))
    error_message = "The name is 4 to 18 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "region" {
  description = "Region of all resources, including databases."
  type        = string
  default     = "us-central1"
}

variable "code_bucket" {
  description = "Bucket of the functions' code."
  type        = string
}

variable "code_object" {
  description = "Object with the functions' code, a zip file with main.py; new code needs a new name, which begins with 'functions'."
  type        = string
  validation {
    condition     = startswith(var.code_object, "functions")
    error_message = "The name begins with 'functions': Cloud Build may read no other objects of the bucket."
  }
}

variable "user_storage" {
  description = "Where records and data are stored: hybrid (data above 64 KB in the bucket), key-value (all in Datastore), persistent (all in the bucket)."
  type        = string
  default     = "hybrid"
  validation {
    condition     = contains(["hybrid", "key-value", "persistent"], var.user_storage)
    error_message = "It is hybrid, key-value or persistent."
  }
}

variable "worker_queue" {
  description = "What triggers the writer: pubsub, or pubsub-ordered, which takes 0.2 s longer."
  type        = string
  default     = "pubsub"
  validation {
    condition     = contains(["pubsub", "pubsub-ordered"], var.worker_queue)
    error_message = "It is pubsub or pubsub-ordered."
  }
}

variable "distributor_queue" {
  description = "What triggers the distributor: inline (the writer distributes, which is fastest), pubsub or pubsub-ordered."
  type        = string
  default     = "inline"
  validation {
    condition     = contains(["inline", "pubsub", "pubsub-ordered"], var.distributor_queue)
    error_message = "It is inline, pubsub or pubsub-ordered."
  }
}

variable "client_channel" {
  description = "How clients receive replies and notifications: pubsub, or tcp from functions that can reach them."
  type        = string
  default     = "pubsub"
  validation {
    condition     = contains(["pubsub", "tcp"], var.client_channel)
    error_message = "It is pubsub or tcp."
  }
}

variable "client_networks" {
  description = "Networks in which functions connect to clients by tcp, in CIDR notation, separated by commas; empty: private ones."
  type        = string
  default     = ""
}

variable "watch_function" {
  description = "What notifies watchers: own (a separate function), or inline (the distributor)."
  type        = string
  default     = "own"
  validation {
    condition     = contains(["own", "inline"], var.watch_function)
    error_message = "It is own or inline."
  }
}

variable "heartbeat_minutes" {
  description = "Minutes between two runs of heartbeat. From an hour on, it runs at least so often, on the hour."
  type        = number
  default     = 1
  validation {
    condition     = var.heartbeat_minutes >= 1 && floor(var.heartbeat_minutes) == var.heartbeat_minutes
    error_message = "It is a whole number of minutes, 1 or more."
  }
}

variable "benchmarking" {
  description = "Report metrics once in this many requests; 0: none."
  type        = number
  default     = 0
}

variable "log_level" {
  description = "DEBUG, INFO, WARNING or ERROR."
  type        = string
  default     = "WARNING"
}

variable "warm_writers" {
  description = "Minimum instances of the writer, which cost money even when idle."
  type        = number
  default     = 0
}

variable "vpc_connector" {
  description = "Connector to private addresses of clients (for TCP); empty: public addresses only."
  type        = string
  default     = ""
}

variable "vpc_egress" {
  description = "What goes through the connector: PRIVATE_RANGES_ONLY or ALL_TRAFFIC."
  type        = string
  default     = "PRIVATE_RANGES_ONLY"
  validation {
    condition     = contains(["PRIVATE_RANGES_ONLY", "ALL_TRAFFIC"], var.vpc_egress)
    error_message = "It is PRIVATE_RANGES_ONLY or ALL_TRAFFIC."
  }
}

variable "kms_key" {
  description = "Key of Cloud KMS in the same region for all that is stored, projects/P/locations/L/keyRings/R/cryptoKeys/K; empty: Google's own. It cannot be changed for databases."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^$|^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "It is projects/P/locations/L/keyRings/R/cryptoKeys/K."
  }
}

variable "labels" {
  description = "Labels of all resources that can have some."
  type        = map(string)
  default     = {}
  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "Keys and values are lower-case letters, digits, '_' and '-', at most 63; a key begins with a letter."
  }
}

variable "monitoring" {
  description = "Whether there are alert policies and a dashboard."
  type        = bool
  default     = true
}

variable "notification_channels" {
  description = "Channels of Cloud Monitoring that alerts go to, projects/P/notificationChannels/N."
  type        = list(string)
  default     = []
}

variable "listener_role" {
  description = "Role of clients that listen by Pub/Sub, projects/P/roles/R, as ../deployer makes it; empty: one is made."
  type        = string
  default     = ""
}

variable "protect" {
  description = "Whether databases and non-empty buckets are protected against deletion."
  type        = bool
  default     = true
}
