"""Tests of what replicas share."""
