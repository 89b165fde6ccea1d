"""Deploying on Google Cloud, and looking after a deployment there."""
