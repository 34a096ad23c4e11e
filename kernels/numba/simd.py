"""Sixteen pixels at once: a vector type for the CPU kernels.

Left to itself, the compiler vectorises a loop only while it can prove that no two arrays overlap, and
silently stops when it cannot. Here the vectors are explicit: `Lanes` is LLVM's <16 x float>, which becomes
one AVX-512 register, two AVX registers or four of NEON, and a comparison gives a `Mask` for `select`.
"""

# mypy: disable-error-code="call-arg, var-annotated"
# (numba types these functions, and passes an intrinsic its first argument itself)
from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

LANES = 16
_FLOATS, _INTS, _BITS = (
    ir.VectorType(element, LANES) for element in (ir.FloatType(), ir.IntType(32), ir.IntType(1))
)


class _LanesType(types.Type):
    pass


class _MaskType(types.Type):
    pass


Lanes, Mask = _LanesType("Lanes"), _MaskType("Mask")


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: types.Type) -> None:
        super().__init__(manager, kind, _FLOATS)


@register_model(_MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: types.Type) -> None:
        super().__init__(manager, kind, _BITS)


def _constant(vector: ir.VectorType, value: float | np.floating) -> ir.Constant:
    return ir.Constant(vector, [value] * LANES)


def _spread(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """A scalar in every lane; a vector as it is."""
    if isinstance(value.type, ir.VectorType):
        return value
    first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, ir.Constant(_FLOATS, ir.Undefined), _constant(_INTS, 0))


def _binary(operation: Callable, kinds: tuple, result: types.Type, emit: Callable) -> None:
    """Gives `a operation b` a meaning for vectors; a float32 on one side goes to every lane."""

    @intrinsic
    def lower(typing, a, b):
        def codegen(context, builder, signature, args):
            return emit(builder, _spread(builder, args[0]), _spread(builder, args[1]))

        return result(a, b), codegen

    @overload(operation)
    def typed(a, b):
        if {a, b} <= set(kinds) and (a in (Lanes, Mask) or b in (Lanes, Mask)):
            return lambda a, b: lower(a, b)  # noqa: PLW0108 - numba wants a function of its own
        return None


def _extreme(name: str) -> Callable:
    def emit(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
        return builder.select(builder.fcmp_ordered(name, a, b), a, b)

    return emit


def lowest(a, b):
    """The smaller in every lane; b where they do not compare."""


def highest(a, b):
    """The larger in every lane; b where they do not compare."""


_FLOAT_KINDS = (Lanes, types.float32)
_binary(operator.add, _FLOAT_KINDS, Lanes, lambda builder, a, b: builder.fadd(a, b))
_binary(operator.sub, _FLOAT_KINDS, Lanes, lambda builder, a, b: builder.fsub(a, b))
_binary(operator.mul, _FLOAT_KINDS, Lanes, lambda builder, a, b: builder.fmul(a, b))
_binary(operator.truediv, _FLOAT_KINDS, Lanes, lambda builder, a, b: builder.fdiv(a, b))
_binary(operator.gt, _FLOAT_KINDS, Mask, lambda builder, a, b: builder.fcmp_ordered(">", a, b))
_binary(operator.ge, _FLOAT_KINDS, Mask, lambda builder, a, b: builder.fcmp_ordered(">=", a, b))
_binary(operator.lt, _FLOAT_KINDS, Mask, lambda builder, a, b: builder.fcmp_ordered("<", a, b))
_binary(operator.le, _FLOAT_KINDS, Mask, lambda builder, a, b: builder.fcmp_ordered("<=", a, b))
_binary(operator.and_, (Mask,), Mask, lambda builder, a, b: builder.and_(a, b))
_binary(lowest, _FLOAT_KINDS, Lanes, _extreme("<"))
_binary(highest, _FLOAT_KINDS, Lanes, _extreme(">"))


@intrinsic
def _not(typing, mask):
    return Mask(mask), lambda context, builder, signature, args: builder.not_(args[0])


@overload(operator.invert)
def _typed_not(mask):
    return (lambda mask: _not(mask)) if mask is Mask else None  # noqa: PLW0108


@intrinsic
def spread(typing, value):
    """A float32 in every lane."""
    return Lanes(types.float32), lambda context, builder, signature, args: _spread(builder, args[0])


@intrinsic
def select(typing, mask, yes, no):
    """yes where the mask is set, no elsewhere; either may be a float32."""

    def codegen(context, builder, signature, args):
        return builder.select(args[0], _spread(builder, args[1]), _spread(builder, args[2]))

    return Lanes(Mask, yes, no), codegen


def _address(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _FLOATS.as_pointer())


@intrinsic
def load(typing, array, index):
    """The 16 floats array[index : index + 16] of a contiguous [M] float32 array."""

    def codegen(context, builder, signature, args):
        return builder.load(_address(context, builder, signature.args[0], *args), align=4)

    return Lanes(array, types.intp), codegen


@intrinsic
def store(typing, array, index, value):
    """Writes array[index : index + 16]."""

    def codegen(context, builder, signature, args):
        builder.store(args[2], _address(context, builder, signature.args[0], *args[:2]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, Lanes), codegen


@intrinsic
def prefetch(typing, array, row):
    """Asks for array[row] of a contiguous [M, K] array to be brought near; nothing waits for it."""

    def codegen(context, builder, signature, args):
        view = context.make_array(signature.args[0])(context, builder, args[0])
        stride = cgutils.unpack_tuple(builder, view.strides)[0]
        byte = ir.IntType(8).as_pointer()
        address = builder.gep(builder.bitcast(view.data, byte), [builder.mul(args[1], stride)])
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, keep, data = (ir.Constant(number, value) for value in (0, 3, 1))
        builder.call(function, [address, read, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


def _reduction(
    name: str, result: types.Type, element: ir.Type, vector: ir.VectorType, *start: ir.Value
) -> Any:
    @intrinsic
    def reduce(typing, value):
        def codegen(context, builder, signature, args):
            kind = ir.FunctionType(element, [*(s.type for s in start), vector])
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            return builder.call(function, [*start, args[0]], fastmath=("reassoc",) if start else ())

        return result(value), codegen

    return reduce


total = _reduction(  # the sum of the lanes
    "llvm.vector.reduce.fadd.v16f32",
    types.float32,
    ir.FloatType(),
    _FLOATS,
    ir.Constant(ir.FloatType(), -0.0),
)
any_lane = _reduction(  # whether the mask is set anywhere
    "llvm.vector.reduce.or.v16i1", types.boolean, ir.IntType(1), _BITS
)


@intrinsic
def bits(typing, mask):
    """The mask as an integer, lane 0 in bit 0."""

    def codegen(context, builder, signature, args):
        return builder.zext(builder.bitcast(args[0], ir.IntType(LANES)), ir.IntType(64))

    return types.int64(Mask), codegen


@intrinsic
def store_set_lanes(typing, array, index, bits, base):
    """Writes base + lane for every bit that is set, in a row from array[index] on; returns how many.

    The 16 - count int32 behind them are overwritten too: there is no branch in this.
    """

    def codegen(context, builder, signature, args):
        array, index, bits, base = args
        mask = builder.bitcast(builder.trunc(bits, ir.IntType(LANES)), _BITS)
        first = builder.insert_element(ir.Constant(_INTS, ir.Undefined), base, ir.Constant(ir.IntType(32), 0))
        lanes = builder.add(
            builder.shuffle_vector(first, ir.Constant(_INTS, ir.Undefined), _constant(_INTS, 0)),
            ir.Constant(_INTS, list(range(LANES))),
        )
        kind = ir.FunctionType(_INTS, [_INTS, _BITS, _INTS])
        compress = cgutils.get_or_insert_function(
            builder.module, kind, "llvm.experimental.vector.compress.v16i32"
        )
        packed = builder.call(compress, [lanes, mask, ir.Constant(_INTS, ir.Undefined)])
        data = context.make_array(signature.args[0])(context, builder, array).data
        builder.store(packed, builder.bitcast(builder.gep(data, [index]), _INTS.as_pointer()), align=4)
        return builder.ctpop(bits)

    return types.int64(array, types.int64, types.int64, types.int32), codegen


@intrinsic
def lowest_bit(typing, bits):
    """The number of the lowest bit that is set in an integer other than 0."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


@intrinsic
def take(typing, counter):
    """Adds one to counter[0] and returns what it was, in one step that no other thread can divide."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), codegen


# Best degree-5 fit of 2^f on [-1, 0] in the sense of the largest relative error, 7.5e-8.
_EXP2 = [
    0.000938788322794093, 0.009188611695056859, 0.055279722548843196,
    0.2401721892364902, 0.6931422525916131, 0.9999999250634883,
]  # fmt: skip


@intrinsic
def exp2(typing, x):
    """2^x for x in [-100, 0]: whole powers by the bits of the exponent, the rest by a polynomial."""

    def codegen(context, builder, signature, args):
        whole = builder.fptosi(args[0], _INTS)  # towards 0
        rest = builder.fsub(args[0], builder.sitofp(whole, _FLOATS))  # in (-1, 0]
        power = _constant(_FLOATS, np.float32(_EXP2[0]))
        for coefficient in _EXP2[1:]:
            power = builder.fadd(builder.fmul(power, rest), _constant(_FLOATS, np.float32(coefficient)))
        bits = builder.shl(builder.add(whole, _constant(_INTS, 127)), _constant(_INTS, 23))
        return builder.fmul(power, builder.bitcast(bits, _FLOATS))

    return Lanes(Lanes), codegen
