"""Runnable measurements: each prints a table."""
