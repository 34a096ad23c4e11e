"""All or nothing: when something fails half-way, the .blend file is as it was before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import bpy

_KINDS = (
    "objects", "collections", "meshes", "pointclouds", "cameras", "images", "materials", "node_groups",
    "actions",
)  # fmt: skip


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """Remove every datablock made inside if an exception passes through."""
    before = {kind: {item.as_pointer() for item in getattr(bpy.data, kind)} for kind in _KINDS}
    try:
        yield
    except BaseException:
        made = [
            item
            for kind in _KINDS
            for item in getattr(bpy.data, kind)
            if item.as_pointer() not in before[kind]
        ]
        bpy.data.batch_remove(made)
        raise
