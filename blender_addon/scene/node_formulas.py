"""Node trees written as formulas: `a * b + 1` makes nodes and links them, laid out in labelled frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import bpy

_COLUMN_WIDTH = 190
_ROW_GAP = 40
_HEADER_AND_ROW = (60, 26)  # pixels of a node: its header, and every visible socket


@dataclass(frozen=True)
class Field:
    """An output of a node, usable in formulas. Vectors and numbers mix as in numpy."""

    formulas: Formulas
    socket: bpy.types.NodeSocket

    @property
    def is_vector(self) -> bool:
        return self.socket.type in ("VECTOR", "RGBA")

    def __add__(self, other: Operand) -> Field:
        return self._binary("ADD", self, other)

    def __radd__(self, other: Operand) -> Field:
        return self._binary("ADD", other, self)

    def __sub__(self, other: Operand) -> Field:
        return self._binary("SUBTRACT", self, other)

    def __rsub__(self, other: Operand) -> Field:
        return self._binary("SUBTRACT", other, self)

    def __mul__(self, other: Operand) -> Field:
        return self._product(other)

    def __rmul__(self, other: Operand) -> Field:
        return self._product(other)

    def __truediv__(self, other: Operand) -> Field:
        return self._binary("DIVIDE", self, other)

    def __neg__(self) -> Field:
        return self * -1.0

    def __pow__(self, exponent: float) -> Field:
        return self.formulas.math("POWER", self, exponent)

    def __gt__(self, other: Operand) -> Field:
        return self.formulas.math("GREATER_THAN", self, other)

    def __lt__(self, other: Operand) -> Field:
        return self.formulas.math("LESS_THAN", self, other)

    def dot(self, other: Field) -> Field:
        return self.formulas.vector_math("DOT_PRODUCT", self, other)

    def _product(self, other: Operand) -> Field:
        if isinstance(other, Field) and other.is_vector and not self.is_vector:
            return other._product(self)
        if self.is_vector and not (
            isinstance(other, tuple) or (isinstance(other, Field) and other.is_vector)
        ):
            return self.formulas.vector_math("SCALE", self, Scale=other)
        return self._binary("MULTIPLY", self, other)

    def _binary(self, operation: str, a: Operand, b: Operand) -> Field:
        vector = any(isinstance(x, tuple) or (isinstance(x, Field) and x.is_vector) for x in (a, b))
        return (self.formulas.vector_math if vector else self.formulas.math)(operation, a, b)


Operand = Field | float | tuple[float, float, float]


class Formulas:
    """Builds one node tree; lives as long as the building."""

    def __init__(self, tree: bpy.types.NodeTree) -> None:
        self.tree = tree
        self._frame: bpy.types.Node | None = None
        self._left = 0.0  # of the present frame
        self._columns: dict[bpy.types.Node, int] = {}  # of the present frame's nodes
        self._rows: dict[int, float] = {}  # column -> next free height in the present frame
        self._inputs: Node | None = None  # the present frame's Group Input

    @contextmanager
    def frame(self, label: str) -> Iterator[None]:
        """Nodes made inside are drawn in one labelled frame, to the right of the frames before it."""
        self._begin()
        self._frame = self.tree.nodes.new("NodeFrame")
        self._frame.label = label
        yield
        self._begin()

    def input(self, name: str) -> Field:
        """An input of the group; every frame has a Group Input of its own that shows what is used there."""
        if self._inputs is None:
            self._inputs = self.node("NodeGroupInput")
            for socket in self._inputs.node.outputs:
                socket.hide = True
        field = self._inputs[name]
        field.socket.hide = False
        return field

    def node(
        self, kind: str, *inputs: Any, label: str = "", settings: dict[str, Any] | None = None, **named: Any
    ) -> Node:
        """Make a node; `inputs` go to its visible sockets in order, `named` to sockets by name.

        An input is a Field (linked), None (left alone) or a value.
        """
        node = self.tree.nodes.new(kind)
        if label:  # every change makes Blender look through the whole tree
            node.label = label
        for name, value in (settings or {}).items():
            setattr(node, name, value)
        visible = [socket for socket in node.inputs if socket.enabled]
        column = 0
        targets = [*zip(visible, inputs, strict=False)]
        targets += [
            (next(s for s in visible if s.name == name.replace("_", " ")), value)
            for name, value in named.items()
        ]
        for socket, value in targets:
            if isinstance(value, Field):
                self.tree.links.new(value.socket, socket)
                column = max(column, self._columns.get(value.socket.node, -1) + 1)
            elif value is not None:
                socket.default_value = value
        self._place(node, column)
        return Node(self, node)

    def math(self, operation: str, *inputs: Operand) -> Field:
        return self.node("ShaderNodeMath", *inputs, settings={"operation": operation}).first

    def vector_math(self, operation: str, *inputs: Operand, **named: Any) -> Field:
        return self.node("ShaderNodeVectorMath", *inputs, settings={"operation": operation}, **named).first

    def combine(self, x: Operand, y: Operand, z: Operand) -> Field:
        return self.node("ShaderNodeCombineXYZ", x, y, z).first

    def separate(self, vector: Field) -> tuple[Field, Field, Field]:
        node = self.node("ShaderNodeSeparateXYZ", vector)
        return node["X"], node["Y"], node["Z"]

    def maximum(self, a: Operand, b: Operand) -> Field:
        return self.math("MAXIMUM", a, b)

    def minimum(self, a: Operand, b: Operand) -> Field:
        return self.math("MINIMUM", a, b)

    def sqrt(self, a: Operand) -> Field:
        return self.math("SQRT", a)

    def _begin(self) -> None:
        if self._rows:
            self._left += (max(self._rows) + 1) * _COLUMN_WIDTH + 2 * _ROW_GAP
        self._frame, self._inputs = None, None
        self._columns, self._rows = {}, {}

    def _place(self, node: bpy.types.Node, column: int) -> None:
        self._columns[node] = column
        node.parent = self._frame
        y = self._rows.get(column, 0.0)
        header, row = _HEADER_AND_ROW
        rows = sum(socket.enabled for socket in [*node.inputs, *node.outputs])
        if node.bl_idname == "NodeGroupInput":
            rows = 8  # most of its sockets are hidden
        node.location = (self._left + column * _COLUMN_WIDTH, y)
        self._rows[column] = y - header - row * rows - _ROW_GAP


@dataclass(frozen=True)
class Node:
    """A node just made: its outputs by name, or the first visible one."""

    formulas: Formulas
    node: bpy.types.Node

    @property
    def first(self) -> Field:
        return Field(self.formulas, next(socket for socket in self.node.outputs if socket.enabled))

    def __getitem__(self, name: str) -> Field:
        return Field(self.formulas, next(s for s in self.node.outputs if s.enabled and s.name == name))
