"""Explicit vectors for Numba, which leaves most loops at half the width of the machine and scalar wherever they branch.

A vector is 64 bytes: 16 float32, 8 float64 or 16 int32 lanes, an LLVM vector type, so that one source serves AVX-512,
and AVX2 or ARM, where LLVM splits it. Inside a jitted function:

    load(a, i), store(a, i, v)   lanes a.flat[i], a.flat[i + 1], ... of a C-contiguous array; lanes(a) is their number
    load_as(a, i, b)             the same for any real type of a, converted to that of b
    splat(x)                     a scalar in every lane
    v + w, v - w, v * w, -v, v / w, fma(v, w, z) = v w + z (one rounding), maximum(v, w), sqrt(v)
    exp2(v)                      in `exponential`
    total(v), largest(v)         reductions to a scalar
    where_less(v, w, x, y)       x where v < w, else y, lane by lane
    less(v, w), equal(v, w)      a bit mask of the lanes where it holds
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import Signature
from numba.extending import intrinsic, models, overload, register_model

I32, I64 = ir.IntType(32), ir.IntType(64)
BYTES = 64
_LLVM = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.int32: I32}


class Vector(types.Type):
    """As many lanes of a scalar type as fill 64 bytes."""

    def __init__(self, scalar: Any) -> None:
        self.scalar, self.count = scalar, BYTES * 8 // scalar.bitwidth
        self.ir = ir.VectorType(_LLVM[scalar], self.count)
        self.suffix = f"v{self.count}{'i' if scalar is types.int32 else 'f'}{scalar.bitwidth}"
        super().__init__(name=f"{scalar}x{self.count}")


VECTORS = {scalar: Vector(scalar) for scalar in _LLVM}
F32, F64, WORDS = VECTORS[types.float32], VECTORS[types.float64], VECTORS[types.int32]


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector.ir)


def llvm(builder: Any, name: str, result: Any, arguments: Any, **options: Any) -> Any:
    """Call the LLVM intrinsic of that full name."""
    kinds = [x.type for x in arguments]
    function = builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(result, kinds), name)
    return builder.call(function, arguments, **options)


def constant(vector: Any, value: float) -> Any:
    """An LLVM constant with the value in every lane; `vector` an LLVM vector type."""
    return ir.Constant(vector, [value] * vector.count)


def spread(builder: Any, scalar: Any, count: int) -> Any:
    """An LLVM scalar in every lane."""
    vector = ir.VectorType(scalar.type, count)
    empty = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(empty, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, empty, constant(ir.VectorType(I32, count), 0))


def address(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, target: Any) -> Any:
    """Pointer to `target` at element `offset` (flat) of a contiguous array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), ir.PointerType(target))


def fence(builder: Any, x: Any) -> Any:
    """An LLVM vector that fast-math may not see through: Numba flags every operation of a kernel, these too."""
    suffix = f"v{x.type.count}f{32 if x.type.element == ir.FloatType() else 64}"
    return llvm(builder, f"llvm.arithmetic.fence.{suffix}", x.type, (x,))


def fused(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """x y + z of LLVM vectors, one rounding."""
    suffix = f"v{x.type.count}f{32 if x.type.element == ir.FloatType() else 64}"
    return llvm(builder, f"llvm.fma.{suffix}", x.type, (x, y, z))


def barrier(builder: Any) -> None:
    """No load may move across: a loop whose loads are all gathered at its head needs more registers than there are."""
    kind = ir.FunctionType(ir.VoidType(), [])
    builder.call(ir.InlineAsm(kind, "", "~{memory}", side_effect=True), [])


def loop(
    builder: Any,
    stop: Any,
    step: int,
    start: list[Any],
    body: Callable[[Any, list[Any]], list[Any]],
    begin: Any = None,
) -> list[Any]:
    """for i in range(begin, stop, step): values = body(i, values); at least once. LLVM values all; returns the last."""
    begin = ir.Constant(I64, 0) if begin is None else begin
    before, inside = builder.block, builder.append_basic_block()
    after = builder.append_basic_block()
    builder.branch(inside)
    builder.position_at_end(inside)
    index, values = builder.phi(I64), [builder.phi(x.type) for x in start]
    results = body(index, list(values))
    following = builder.add(index, ir.Constant(I64, step))
    for phi, first, later in zip([index, *values], [begin, *start], [following, *results], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, stop), inside, after)
    builder.position_at_end(after)
    return results


def shuffled(builder: Any, x: Any, y: Any, lanes: Any) -> Any:
    """The lanes of x and, counted on, of y, as an LLVM vector of that many lanes."""
    chosen = list(lanes)
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(chosen)), chosen))


def _of(array: Any) -> Vector | None:
    contiguous = isinstance(array, types.Array) and array.layout == "C"
    return VECTORS.get(array.dtype) if contiguous else None


@intrinsic
def load(typing: Any, array: Any, offset: Any) -> Any:
    vector = _of(array)
    if vector is None:
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(
            address(context, builder, array, arguments[0], arguments[1], vector.ir), align=array.dtype.bitwidth // 8
        )

    return vector(array, types.int64), generate


@intrinsic
def load_as(typing: Any, array: Any, offset: Any, like: Any) -> Any:
    """Numbers of any real type as lanes of the type of `like`, from array.flat[offset] on."""
    vector = VECTORS[like.dtype]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scalar = context.get_data_type(array.dtype)
        pointer = address(context, builder, array, arguments[0], arguments[1], ir.VectorType(scalar, vector.count))
        raw = builder.load(pointer, align=array.dtype.bitwidth // 8)
        if isinstance(array.dtype, types.Integer):
            return (builder.sitofp if array.dtype.signed else builder.uitofp)(raw, vector.ir)
        if array.dtype.bitwidth == vector.scalar.bitwidth:
            return raw
        return (builder.fpext if array.dtype.bitwidth < vector.scalar.bitwidth else builder.fptrunc)(raw, vector.ir)

    return vector(array, types.int64, like), generate


@intrinsic
def store(typing: Any, array: Any, offset: Any, value: Any) -> Any:
    if not isinstance(value, Vector) or _of(array) is not value:
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = address(context, builder, array, arguments[0], arguments[1], value.ir)
        builder.store(arguments[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, value), generate


@intrinsic
def prefetch(typing: Any, array: Any, offset: Any) -> Any:
    """Ask for the cache line of array.flat[offset], which need not exist."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8)
        pointer = address(context, builder, array, arguments[0], arguments[1], byte)
        how = (ir.Constant(I32, value) for value in (0, 3, 1))  # to read, near, data
        llvm(builder, "llvm.prefetch.p0", ir.VoidType(), (pointer, *how))
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@intrinsic
def lanes(typing: Any, array: Any) -> Any:
    vector = _of(array)
    if vector is None:
        return None
    return types.int64(array), lambda context, builder, signature, arguments: ir.Constant(I64, vector.count)


@intrinsic
def splat(typing: Any, scalar: Any) -> Any:
    vector = VECTORS.get(scalar)
    if vector is None:
        return None
    return vector(scalar), lambda context, builder, signature, arguments: spread(builder, arguments[0], vector.count)


def lanewise(arity: int, result: Callable[[Vector], Any] | None, generate: Callable[..., Any], *kinds: Vector) -> Any:
    """An intrinsic over vectors of one type: generate(builder, vector, *values) -> value of type result(vector)."""

    def typed(typing: Any, *arguments: Any) -> Any:
        vector = arguments[0]
        if (
            not isinstance(vector, Vector)
            or any(x is not vector for x in arguments)
            or vector not in (kinds or (F32, F64))
        ):
            return None
        code = lambda context, builder, signature, values: generate(builder, vector, *values)  # noqa: E731
        return Signature(vector if result is None else result(vector), arguments, None), code

    parameters = ", ".join("xyzw"[:arity])
    scope: dict[str, Any] = {"typed": typed}
    exec(f"def intrinsic_(typing, {parameters}): return typed(typing, {parameters})", scope)
    return intrinsic(scope["intrinsic_"])


def _named(name: str) -> Callable[..., Any]:
    return lambda builder, vector, *values: llvm(builder, f"llvm.{name}.{vector.suffix}", vector.ir, values)


def larger(builder: Any, x: Any, y: Any) -> Any:
    """The larger of LLVM numbers or vectors, lane by lane; y where they do not compare."""
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


def smaller(builder: Any, x: Any, y: Any) -> Any:
    """The smaller of LLVM numbers or vectors, lane by lane; y where they do not compare."""
    return builder.select(builder.fcmp_ordered("<", x, y), x, y)


def _reduce_sum(builder: Any, vector: Vector, x: Any) -> Any:
    start = ir.Constant(vector.ir.element, -0.0)
    name = f"llvm.vector.reduce.fadd.{vector.suffix}"
    return llvm(builder, name, vector.ir.element, (start, x), fastmath=("reassoc",))


def _reduce(name: str) -> Callable[..., Any]:
    return lambda builder, vector, x: llvm(
        builder, f"llvm.vector.reduce.{name}.{vector.suffix}", vector.ir.element, (x,), fastmath=("nnan",)
    )


def _select(builder: Any, vector: Vector, x: Any, y: Any, yes: Any, no: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", x, y), yes, no)


def _bits(builder: Any, lanes_: Any) -> Any:
    return builder.zext(builder.bitcast(lanes_, ir.IntType(lanes_.type.count)), I64)


fma = lanewise(3, None, lambda builder, vector, x, y, z: fused(builder, x, y, z))
sqrt = lanewise(1, None, _named("sqrt"))
maximum = lanewise(2, None, lambda builder, _, x, y: larger(builder, x, y))
minimum = lanewise(2, None, lambda builder, _, x, y: smaller(builder, x, y))
smallest = lanewise(1, lambda vector: vector.scalar, _reduce("fmin"))
total = lanewise(1, lambda vector: vector.scalar, _reduce_sum)
largest = lanewise(1, lambda vector: vector.scalar, _reduce("fmax"))
where_less = lanewise(4, None, _select)
equal = lanewise(
    2, lambda vector: types.int64, lambda builder, _, x, y: _bits(builder, builder.fcmp_ordered("==", x, y))
)
less = lanewise(2, lambda vector: types.int64, lambda builder, _, x, y: _bits(builder, builder.fcmp_ordered("<", x, y)))

_OPERATORS = {
    operator.add: lanewise(2, None, lambda builder, vector, x, y: builder.fadd(x, y)),
    operator.sub: lanewise(2, None, lambda builder, vector, x, y: builder.fsub(x, y)),
    operator.mul: lanewise(2, None, lambda builder, vector, x, y: builder.fmul(x, y)),
    operator.iadd: lanewise(2, None, lambda builder, vector, x, y: builder.fadd(x, y)),
    operator.truediv: lanewise(2, None, lambda builder, vector, x, y: builder.fdiv(x, y)),
}


def _register(symbol: Any, function: Any) -> None:
    @overload(symbol)
    def binary(x, y):  # type: ignore[no-untyped-def]
        return (lambda x, y: function(x, y)) if isinstance(x, Vector) and x is y else None


for _symbol, _function in _OPERATORS.items():
    _register(_symbol, _function)
