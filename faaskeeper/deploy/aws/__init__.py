"""Deploying to AWS and looking after what is deployed."""
