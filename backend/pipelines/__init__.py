"""Pipelines: from a request to views and splats, as loops that can be read from top to bottom."""
