"""What the providers for clouds share: calls, channels, serving messages, logs, the way to a deployment."""
