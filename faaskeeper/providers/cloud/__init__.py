"""Shared by the cloud providers: calls, channels, message processing, logs, connecting."""
