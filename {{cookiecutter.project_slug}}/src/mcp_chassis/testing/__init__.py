"""Fixtures and attacks for the tests of a project."""
