"""Compares our networks with outputs of the published ones: `python -m tests.parity DIR`."""
