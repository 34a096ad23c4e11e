"""Inputs of node modifiers by name; where Blender keeps them changed in 5.2."""

from __future__ import annotations

from typing import Any

import bpy


def get_input(modifier: bpy.types.NodesModifier, name: str) -> Any:
    """The value of an input."""
    identifier = _identifier(modifier, name)
    if hasattr(modifier, "properties"):
        return getattr(modifier.properties.inputs, identifier).value
    return modifier[identifier]


def set_inputs(modifier: bpy.types.NodesModifier, **inputs: Any) -> None:
    """Set inputs, named with underscores for spaces, and have their object evaluated again."""
    for name, value in inputs.items():
        identifier = _identifier(modifier, name.replace("_", " "))
        if hasattr(modifier, "properties"):
            getattr(modifier.properties.inputs, identifier).value = value
        else:
            modifier[identifier] = value
    modifier.id_data.update_tag()


def input_path(modifier: bpy.types.NodesModifier, name: str) -> str:
    """The data path of an input from its object, for drivers and keyframes."""
    identifier = _identifier(modifier, name)
    if hasattr(modifier, "properties"):
        return f'modifiers["{modifier.name}"].properties.inputs.{identifier}.value'
    return f'modifiers["{modifier.name}"]["{identifier}"]'


def draw_input(layout: bpy.types.UILayout, modifier: bpy.types.NodesModifier, name: str) -> None:
    """Show an input in a panel."""
    identifier = _identifier(modifier, name)
    if hasattr(modifier, "properties"):
        layout.prop(getattr(modifier.properties.inputs, identifier), "value", text=name)
    else:
        layout.prop(modifier, f'["{identifier}"]', text=name)


def _identifier(modifier: bpy.types.NodesModifier, name: str) -> str:
    return next(
        item.identifier
        for item in modifier.node_group.interface.items_tree
        if item.item_type == "SOCKET" and item.in_out == "INPUT" and item.name == name
    )
