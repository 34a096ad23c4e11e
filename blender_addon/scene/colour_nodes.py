"""The colours of splats in nodes: spherical harmonics seen from the camera, then sRGB to linear light."""

from __future__ import annotations

from typing import Any

from ..backend.shared.ply import SH_C0
from .attribute_nodes import named, sample, store
from .node_formulas import Field, Formulas, Node

_SH_C1 = 0.4886025119029199
_SH_C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
_SH_C3 = (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277)


def coloured_quads(
    f: Formulas,
    quads: Field,
    *,
    centre: Field,
    opacity: Field,
    camera: Node,
    own: Node,
    is_free: Field,
) -> Field:
    """Store every splat's colour, linear or as displayed, and its opacity on its quad.

    Args:
        centre: of the splat, object space.
        camera: Object Info of the scene's camera.
        own: Object Info of the splat object.
        is_free: in free viewing, where no layer is converted later, colours are always linear.
    """
    with f.frame("Colour: sRGB from spherical harmonics in the object's rotated frame, then linear light"):
        as_displayed = f.input("Display Blending") * (1 - is_free)
        world_centre = f.node("FunctionNodeTransformPoint", centre, own["Transform"]).first
        to_own = f.node("FunctionNodeInvertRotation", own["Rotation"]).first
        from_camera = world_centre - camera["Location"]
        x, y, z = f.separate(own["Scale"])  # all negative where the object is mirrored
        mirrored = f.math("SIGN", x * y * z)
        direction = f.node("FunctionNodeRotateVector", from_camera * mirrored, to_own).first
        plain = named(f, "sh_0", "FLOAT_VECTOR") * SH_C0 + (0.5, 0.5, 0.5)
        harmonic = _harmonics(f, plain, f.vector_math("NORMALIZE", direction))

        def coloured(srgb: Field) -> Field:
            srgb = f.vector_math("MAXIMUM", srgb, (0.0, 0.0, 0.0))
            kind = {"input_type": "VECTOR"}
            light = f.node("GeometryNodeSwitch", as_displayed, _linear(f, srgb), srgb, settings=kind)
            r, g, b = f.separate(light.first * f.input("Tint") * f.input("Brightness"))
            colour = f.node("FunctionNodeCombineColor", r, g, b, opacity).first
            colour = sample(f, colour, f.node("GeometryNodeInputIndex").first, "FLOAT_COLOR")
            return store(f, quads, "splat_color", "FLOAT_COLOR", "FACE", colour)

        kind = {"input_type": "GEOMETRY"}  # only the branch that is needed is computed
        either = (coloured(plain), coloured(harmonic))
        return f.node("GeometryNodeSwitch", f.input("SH Degree") > 0, *either, settings=kind).first


def _harmonics(f: Formulas, plain: Field, direction: Field) -> Field:
    """Add spherical harmonics of degree 1 to 3, zero where attributes are missing, to a colour."""
    basis = harmonic_basis(*f.separate(direction))
    colour = plain
    for i, factor in enumerate(basis, start=1):
        colour += named(f, f"sh_{i}", "FLOAT_VECTOR") * factor
    return colour


def harmonic_basis(x: Any, y: Any, z: Any) -> tuple[Any, ...]:
    """The spherical harmonics of degree 1 to 3 in a direction, as 3DGS orders and signs them.

    Args:
        x: of the direction, of length one: an array, or a Field.
        y: as x.
        z: as x.
    """
    xx, yy, zz = x * x, y * y, z * z
    c2, c3 = _SH_C2, _SH_C3
    return (
        y * -_SH_C1,
        z * _SH_C1,
        x * -_SH_C1,
        x * y * c2[0],
        y * z * -c2[0],
        (2 * zz - xx - yy) * c2[1],
        x * z * -c2[0],
        (xx - yy) * c2[2],
        y * (3 * xx - yy) * -c3[0],
        x * y * z * c3[1],
        y * (4 * zz - xx - yy) * -c3[2],
        z * (2 * zz - 3 * xx - 3 * yy) * c3[3],
        x * (4 * zz - xx - yy) * -c3[2],
        z * (xx - yy) * c3[4],
        x * (xx - 3 * yy) * -c3[0],
    )


def _linear(f: Formulas, srgb: Field) -> Field:
    """sRGB to linear light (IEC 61966-2-1), channel by channel."""

    def channel(c: Field) -> Field:
        is_dark = c < 0.04045
        return is_dark * (c / 12.92) + (1 - is_dark) * ((c + 0.055) / 1.055) ** 2.4

    return f.combine(*(channel(c) for c in f.separate(srgb)))
