"""Splat rasterization on CPU cores, compiled by Numba."""
