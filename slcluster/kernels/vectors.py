"""Sums of rows in vector instructions, in compiled code.

The compiler makes vectors of a loop only where it can show that the rows do not overlap, which it gives up on where
several are written, and it goes through what is left of a short row one number at a time. Rows of a sphere's
systems are short. So these loops are written out for it: eight numbers at a time, then four, then one, several rows
read for each that is written. Every number takes the same operations in the same order wherever it lies in its row,
and on whichever processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["add_multiples", "dot", "fma"]

#: Numbers at a time. Processors with shorter registers take a vector in parts.
_WIDTHS = (8, 4, 1)

_INDEX = ir.IntType(32)


def _fma(context: Any, a: Any, b: Any, c: Any) -> Any:

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


#: ``fma(a, b, c)`` is ``a * b + c`` with one rounding, in compiled functions, whatever the processor.
fma: Any = intrinsic(_fma)


def _are_rows(kinds: Sequence[Any]) -> bool:
    return all(
        isinstance(kind, types.Array) and (kind.ndim, kind.layout, kind.dtype) == (1, "C", types.float64)
        for kind in kinds
    )


def _add_multiples(context: Any, targets: Any, sources: Any, factors: Any, start: Any, stop: Any) -> Any:
    if not _are_rows([*targets.types, *sources.types]) or factors.count != targets.count * sources.count:
        return None  # numba then says that the call fits no signature

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        into = _pointers(context, builder, signature.args[0], arguments[0])
        rows = _pointers(context, builder, signature.args[1], arguments[1])
        flat = [builder.extract_value(arguments[2], i) for i in range(factors.count)]
        by = [flat[i * len(rows) : (i + 1) * len(rows)] for i in range(len(into))]

        def step(k: Any, width: int) -> None:
            spread = [[_spread(builder, factor, width) for factor in some] for some in by]
            parts = [_load(builder, row, k, width) for row in rows]
            totals = [_load(builder, row, k, width) for row in into]
            for i, total in enumerate(totals):
                for part, factor in zip(reversed(parts), reversed(spread[i]), strict=True):
                    total = _vector_fma(builder, factor, part, total, width)
                totals[i] = total
            for row, total in zip(into, totals, strict=True):
                builder.store(total, _place(builder, row, k, width), align=8)

        _along(builder, arguments[3], arguments[4], step)
        return context.get_dummy_value()

    return types.void(targets, sources, factors, types.intp, types.intp), generate


#: ``add_multiples(targets, sources, factors, start, stop)`` adds to each row of the tuple ``targets``, from ``start`` to
#: ``stop``, the rows of the tuple ``sources``, each by its factor, the last first. ``factors`` is one flat tuple: those
#: of the first target, then those of the second. Rows are contiguous float64; none may be both read and written.
add_multiples: Any = intrinsic(_add_multiples)


def _dot(context: Any, a: Any, b: Any, start: Any, stop: Any) -> Any:
    if not _are_rows([a, b]):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[:2], arguments[:2], strict=True)
        ]
        sums = {width: _zero(builder, width) for width in _WIDTHS}

        def step(k: Any, width: int) -> None:
            left, right = (_load(builder, row, k, width) for row in rows)
            total = _vector_fma(builder, left, right, builder.load(sums[width]), width)
            builder.store(total, sums[width])

        _along(builder, arguments[2], arguments[3], step)
        numbers: list[Any] = []
        for width, kept in sums.items():
            total = builder.load(kept)
            numbers += (
                [total] if width == 1 else [builder.extract_element(total, _INDEX(i)) for i in range(width)]
            )
        while len(numbers) > 1:  # in pairs, so that few wait for each other
            pairs = [builder.fadd(*numbers[i : i + 2]) for i in range(0, len(numbers) - 1, 2)]
            numbers = pairs + numbers[2 * len(pairs) :]
        return numbers[0]

    return types.float64(a, b, types.intp, types.intp), generate


#: ``dot(a, b, start, stop)``: sum of products of two contiguous float64 rows.
dot: Any = intrinsic(_dot)


def _along(builder: Any, start: Any, stop: Any, step: Any) -> None:
    """``step(k, width)`` from start to stop: as many of the widest as fit, then of the next."""
    for width in _WIDTHS:
        kept = cgutils.alloca_once_value(builder, start)
        check, body, done = (
            builder.append_basic_block(f"{name}_{width}") for name in ("check", "body", "done")
        )
        builder.branch(check)
        builder.position_at_end(check)
        k = builder.load(kept)
        following = builder.add(k, ir.Constant(k.type, width))
        builder.cbranch(builder.icmp_signed("<=", following, stop), body, done)
        builder.position_at_end(body)
        step(k, width)
        builder.store(following, kept)
        builder.branch(check)
        builder.position_at_end(done)
        start = builder.load(kept)


def _pointers(context: Any, builder: Any, kind: Any, rows: Any) -> list[Any]:
    """Where each array of a tuple keeps its numbers."""
    return [
        context.make_array(one)(context, builder, builder.extract_value(rows, i)).data
        for i, one in enumerate(kind.types)
    ]


def _vector(width: int) -> Any:
    return ir.DoubleType() if width == 1 else ir.VectorType(ir.DoubleType(), width)


def _place(builder: Any, row: Any, k: Any, width: int) -> Any:
    return builder.bitcast(builder.gep(row, [k]), _vector(width).as_pointer())


def _load(builder: Any, row: Any, k: Any, width: int) -> Any:
    return builder.load(_place(builder, row, k, width), align=8)


def _zero(builder: Any, width: int) -> Any:
    numbers: Any = 0.0 if width == 1 else [0.0] * width
    return cgutils.alloca_once_value(builder, ir.Constant(_vector(width), numbers))


def _spread(builder: Any, number: Any, width: int) -> Any:
    """A vector of one number."""
    if width == 1:
        return number
    nothing = ir.Constant(_vector(width), ir.Undefined)
    first = builder.insert_element(nothing, number, _INDEX(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_INDEX, width), [0] * width))


def _vector_fma(builder: Any, a: Any, b: Any, c: Any, width: int) -> Any:
    name = "llvm.fma.f64" if width == 1 else f"llvm.fma.v{width}f64"
    kind: Sequence[Any] = [_vector(width)] * 3
    return builder.call(
        cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind[0], kind), name), [a, b, c]
    )
