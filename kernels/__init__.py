"""Draws Gaussian splats, and tells how the image changes when a splat changes."""

from __future__ import annotations

from .dispatch import drawing_device, rasterization

__all__ = ["drawing_device", "rasterization"]
