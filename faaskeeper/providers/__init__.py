"""Providers: each package runs the core on one cloud, or on one machine."""
