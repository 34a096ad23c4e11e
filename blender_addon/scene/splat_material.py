"""The material that draws a Gaussian on every splat's quad."""

from __future__ import annotations

import bpy

from .attribute_nodes import shared
from .node_formulas import Formulas

MIN_ALPHA = 1 / 255  # of a splat at its rim
_MAX_ALPHA = 0.99


def splat_material() -> bpy.types.Material:
    """For renders: blended in the order of the quads."""
    return shared(bpy.data.materials, "Diorama Splats", lambda material: _build(material, "BLENDED"))


def preview_material() -> bpy.types.Material:
    """For free viewing: dithered, which is right in any order."""
    return shared(bpy.data.materials, "Diorama Splats Preview", lambda material: _build(material, "DITHERED"))


def _build(material: bpy.types.Material, method: str) -> None:
    material.surface_render_method = method
    material.use_transparency_overlap = True
    if hasattr(material, "cycles"):
        material.cycles.emission_sampling = "NONE"  # splats are no lamps: Cycles need not look for them
    if material.node_tree is None:  # up to 4.5
        material.use_nodes = True
    material.node_tree.nodes.clear()
    f = Formulas(material.node_tree)

    with f.frame("Gaussian: opacity · exp(-r² / 2), nothing below 1/255"):
        offset = f.node("ShaderNodeAttribute", settings={"attribute_name": "splat_offset"})["Vector"]
        colour = f.node("ShaderNodeAttribute", settings={"attribute_name": "splat_color"})
        alpha = colour["Alpha"] * f.math("EXPONENT", offset.dot(offset) * -0.5)
        alpha = f.minimum(alpha, _MAX_ALPHA) * (alpha > MIN_ALPHA)

    with f.frame("The splat's colour as light, or lit where it has a normal"):
        normal = f.node("ShaderNodeAttribute", settings={"attribute_name": "splat_normal"})["Vector"]
        is_lit = f.vector_math("LENGTH", normal) > 0.5
        kind = {"vector_type": "NORMAL", "convert_from": "OBJECT", "convert_to": "WORLD"}
        normal = f.node("ShaderNodeVectorTransform", normal, settings=kind).first
        lit = f.node("ShaderNodeBsdfDiffuse", colour["Color"], Normal=normal).first
        light = f.node("ShaderNodeEmission", colour["Color"], 1.0).first
        front = f.node("ShaderNodeMixShader", is_lit, light, lit).first

    with f.frame("In front of what is behind"):
        behind = f.node("ShaderNodeBsdfTransparent").first
        surface = f.node("ShaderNodeMixShader", alpha, behind, front).first

    f.node("ShaderNodeOutputMaterial", surface)
