"""What the nodes hand over where the add-on draws: points, of which the object's own are clicked on."""

from __future__ import annotations

from .attribute_nodes import store
from .node_formulas import Field, Formulas

CENTRE = "splat_centre"  # where a splat is; its point may be elsewhere
_STRONG = 0.5  # of the most opaque splat's opacity: a splat that covers its own dot


def points_to_click(f: Formulas, splats: Field, chosen: Field, opacity: Field) -> Field:
    """The chosen splats as loose points, which Blender draws as dots: by these an object is selected.

    A dot is larger than most splats, and shows where a splat hardly does. So the points of faint splats are
    all put into a strong one, and where they were is kept beside them.
    """
    points = f.node("GeometryNodeDeleteGeometry", splats, chosen < 0.5).first
    place = f.node("GeometryNodeInputPosition").first
    points = store(f, points, CENTRE, "FLOAT_VECTOR", "POINT", place)
    most = f.node("GeometryNodeAttributeStatistic", points, None, opacity)["Max"]
    is_faint = opacity < most * _STRONG
    index = f.node("GeometryNodeInputIndex").first
    a_strong_one = f.node("GeometryNodeAttributeStatistic", points, 1 - is_faint, index)["Min"]
    inside = f.node(
        "GeometryNodeSampleIndex", points, place, a_strong_one, settings={"data_type": "FLOAT_VECTOR"}
    ).first
    return f.node("GeometryNodeSetPosition", points, is_faint, inside).first
