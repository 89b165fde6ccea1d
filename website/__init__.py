"""Builds the documentation site: ``make docs``. No part of the installed package."""
