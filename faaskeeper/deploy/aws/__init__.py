"""Deploying to AWS and operating deployments there."""
