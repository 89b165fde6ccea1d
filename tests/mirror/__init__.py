"""Tests of ``faaskeeper.mirror``."""
