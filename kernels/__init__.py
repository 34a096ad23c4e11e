"""Draws Gaussian splats, and tells how the image changes when a splat changes."""

from __future__ import annotations

from .dispatch import rasterization

__all__ = ["rasterization"]
