"""Splat rasterization on NVIDIA GPUs, compiled by Warp."""
