"""Deploying to Google Cloud and operating deployments there."""
