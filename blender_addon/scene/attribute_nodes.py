"""Attributes of splats in nodes, and datablocks that all splats of a .blend file share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy

from .node_formulas import Field, Formulas

VERSION = 4  # counts up when nodes change, so that old scenes keep the nodes they were made with
_MARK = "diorama_nodes"
# Of the scene, there only while the add-on is: true where it draws splats in the 3D view itself.
DRAWN_BY_ADD_ON = "diorama_draw_splats"


def shared(
    collection: bpy.types.bpy_prop_collection, name: str, build: Callable[[Any], None], *kind: str
) -> Any:
    """The one datablock of that name and of this version in a .blend file; built on first use."""
    for item in collection:
        if item.get(_MARK) == f"{name} {VERSION}" and item.library is None:
            return item
    made = collection.new(name, *kind)
    made[_MARK] = f"{name} {VERSION}"
    build(made)
    return made


def named(f: Formulas, name: str, data_type: str) -> Field:
    """An attribute of the splats."""
    return f.node(
        "GeometryNodeInputNamedAttribute", name, settings={"data_type": data_type}, label=name
    ).first


def store(f: Formulas, geometry: Field, name: str, data_type: str, domain: str, value: Field) -> Field:
    """The geometry with an attribute set."""
    kind = {"data_type": data_type, "domain": domain}
    return f.node(
        "GeometryNodeStoreNamedAttribute", geometry, None, name, value, settings=kind, label=name
    ).first


def sample(f: Formulas, value: Field, splat: Field, data_type: str) -> Field:
    """A value of the splat with that index."""
    kind = {"data_type": data_type}
    return f.node("GeometryNodeSampleIndex", f.input("Geometry"), value, splat, settings=kind).first
