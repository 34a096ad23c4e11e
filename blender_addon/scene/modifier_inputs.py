"""Inputs of node modifiers by name; where Blender keeps them changed in 5.2."""

from __future__ import annotations

from typing import Any

import bpy

from ..backend.shared.protocol import DioramaError


def get_input(modifier: bpy.types.NodesModifier, name: str) -> Any:
    """The value of an input, or None if the nodes have lost it: artists may change them."""
    identifier = _identifiers(modifier).get(name)
    if identifier is None:
        return None
    if hasattr(modifier, "properties"):
        return getattr(modifier.properties.inputs, identifier).value
    return modifier[identifier]


def set_inputs(modifier: bpy.types.NodesModifier, **inputs: Any) -> None:
    """Set inputs, named with underscores for spaces, and have their object evaluated again.

    Raises:
        DioramaError: E_REQUEST if the nodes have lost one of them.
    """
    known = {_existing(modifier, name.replace("_", " ")): value for name, value in inputs.items()}
    for identifier, value in known.items():
        if hasattr(modifier, "properties"):
            getattr(modifier.properties.inputs, identifier).value = value
        else:
            modifier[identifier] = value
    modifier.id_data.update_tag()


def input_path(modifier: bpy.types.NodesModifier, name: str) -> str:
    """The data path of an input from its object, for drivers and keyframes.

    Raises:
        DioramaError: E_REQUEST if the nodes have lost it.
    """
    identifier = _existing(modifier, name)
    if hasattr(modifier, "properties"):
        return f'modifiers["{modifier.name}"].properties.inputs.{identifier}.value'
    return f'modifiers["{modifier.name}"]["{identifier}"]'


def draw_input(layout: bpy.types.UILayout, modifier: bpy.types.NodesModifier, name: str) -> None:
    """Show an input in a panel, if the nodes still have it."""
    identifier = _identifiers(modifier).get(name)
    if identifier is None:
        return
    if hasattr(modifier, "properties"):
        layout.prop(getattr(modifier.properties.inputs, identifier), "value", text=name)
    else:
        layout.prop(modifier, f'["{identifier}"]', text=name)


def _existing(modifier: bpy.types.NodesModifier, name: str) -> str:
    identifier = _identifiers(modifier).get(name)
    if identifier is None:
        raise DioramaError(
            "E_REQUEST",
            f"the node group {modifier.node_group.name} has no input {name!r} any more",
            hint="Undo what was changed in it, or give the input its name back.",
        )
    return identifier


def _identifiers(modifier: bpy.types.NodesModifier) -> dict[str, str]:
    """How Blender calls the inputs, by the names that people see."""
    return {
        item.name: item.identifier
        for item in modifier.node_group.interface.items_tree
        if item.item_type == "SOCKET" and item.in_out == "INPUT"
    }
