"""What points up and ahead in a file of splats, as it is chosen in the dialogs of import and export."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
from bpy_extras.io_utils import axis_conversion

from ..backend.shared.protocol import DioramaError

_SIX = [(axis, axis, "") for axis in ("X", "Y", "Z", "-X", "-Y", "-Z")]
_USUAL_FORWARD = {"Y": "-Z", "-Y": "Z"}  # else Y


def up_axis(description: str) -> Any:
    """The property that says what points up."""
    by_format = ("AUTO", "By Format", "Y for SPZ, glTF and USD, Z for a PLY of Diorama, -Y for all others")
    return bpy.props.EnumProperty(name="Up", description=description, items=[by_format, *_SIX])


def forward_axis(description: str) -> Any:
    """The property that says what points ahead; it counts where up is chosen."""
    usual = ("AUTO", "As Usual", "Z where -Y is up, -Z where Y is up, else Y")
    return bpy.props.EnumProperty(name="Forward", description=description, items=[usual, *_SIX])


def draw(operator: bpy.types.Operator) -> None:
    """Show both in a dialog, the second where it counts."""
    operator.layout.prop(operator, "up_axis")
    if operator.up_axis != "AUTO":
        operator.layout.prop(operator, "forward_axis")


def chosen(operator: bpy.types.Operator) -> np.ndarray | None:
    """From the axes of the file to Blender's, [3, 3], or None to go by the file.

    Raises:
        DioramaError: E_REQUEST if both are the same axis.
    """
    up, forward = operator.up_axis, operator.forward_axis
    if up == "AUTO":
        return None
    if forward == "AUTO":
        forward = _USUAL_FORWARD.get(up, "Y")
    if up[-1] == forward[-1]:
        raise DioramaError(
            "E_REQUEST", f"Up ({up}) and Forward ({forward}) are along one axis", "Choose another Forward."
        )
    return np.round(np.array(axis_conversion(from_forward=forward, from_up=up), np.float64))
