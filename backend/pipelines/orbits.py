"""The cameras of a model's views."""

from __future__ import annotations

from torch import Tensor

from ..cameras import orbit
from .settings import ModelSettings

# Cameras that differ so little from the model's own are as good as these. Source: the starter, whose views
# agree less at 25° instead of 15° and not at all at 45°, and show objects as large at any radius.
USUAL_DEG = 5.0
USUAL_RADIUS = 0.1  # as a part of the model's own


def view_cameras(
    settings: ModelSettings,
    num_views: int | None = None,
    elevation_deg: float | None = None,
    radius: float | None = None,
) -> Tensor:  # [V, 4, 4]
    """An orbit; its views, elevation and radius are the model's own where none are given."""
    return orbit(
        num_views or settings.num_views,
        settings.elevation_deg if elevation_deg is None else elevation_deg,
        settings.radius if radius is None else radius,
    )


def unusual_orbit(settings: ModelSettings, elevation_deg: float | None, radius: float | None) -> str:
    """A warning about cameras unlike those the model was trained with; empty for usual ones."""
    unusual = []
    if elevation_deg is not None and abs(elevation_deg - settings.elevation_deg) > USUAL_DEG:
        unusual.append(f"elevation {elevation_deg:g}° (trained: {settings.elevation_deg:g}°)")
    if radius is not None and abs(radius / settings.radius - 1) > USUAL_RADIUS:
        unusual.append(f"radius {radius:g} m (trained: {settings.radius:g} m)")
    if not unusual:
        return ""
    return (
        f"The cameras are unlike those that the model was trained with: {' and '.join(unusual)}. "
        "Expect views that disagree, and splats that are blurred, out of shape or of another size."
    )
