"""Benchmarks. Each module prints a table."""
