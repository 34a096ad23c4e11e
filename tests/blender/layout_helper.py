"""Stands for Blender's layout, which exists in a window only: notes what is drawn, and checks its names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import bpy


class Layout:
    """Takes what is drawn instead of the screen; `drawn` holds names and texts."""

    def __init__(self, drawn: list[str] | None = None) -> None:
        self.drawn: list[str] = [] if drawn is None else drawn

    def row(self, **_: Any) -> Layout:
        return Layout(self.drawn)

    column = box = split = grid_flow = row

    def prop(self, owner: bpy.types.bpy_struct, name: str, text: str = "", **_: Any) -> None:
        assert isinstance(owner, SimpleNamespace) or name in owner.bl_rna.properties, name
        self.drawn.append(name)
        if text:
            self.drawn.append(text)

    def operator(self, name: str, text: str = "", **_: Any) -> SimpleNamespace:
        group, _, function = name.partition(".")
        assert function in dir(getattr(bpy.ops, group)), name
        self.drawn.append(name)
        if text:
            self.drawn.append(text)
        return SimpleNamespace()

    def label(self, text: str = "", **_: Any) -> None:
        self.drawn.append(text)

    def progress(self, factor: float, text: str) -> None:
        assert 0 <= factor <= 1
        self.drawn.append(text)

    def separator(self, **_: Any) -> None:
        pass

    def template_icon(self, icon: int, **_: Any) -> None:
        assert icon
        self.drawn.append("icon")

    @property
    def text(self) -> str:
        """All of it on one line, for labels do not wrap and long sentences are cut into several."""
        return " ".join(self.drawn)


def draw(panel: type) -> list[str]:
    """What a panel shows now."""
    layout = Layout()
    panel.draw(SimpleNamespace(layout=layout), bpy.context)
    return layout.drawn
