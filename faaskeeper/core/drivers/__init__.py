"""The contracts that a provider implements: tables and object stores, queues, channels."""
