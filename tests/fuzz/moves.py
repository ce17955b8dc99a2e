"""Nodes drawn at random that move elements: reshapes, transposes, slices, pads, gathers, scatters, orders."""

from __future__ import annotations

import numpy as np

from tests.fuzz.builder import Builder, Rejected, Shape, Value

ANY = (
    "float32",
    "float32",
    "float32",
    "float16",
    "int64",
    "int32",
    "uint8",
    "int8",
    "bool",
    "float64",
    "uint16",
)


def any_of(b: Builder, low: int = 0, high: int = 5) -> Value:
    return b.of(b.one(ANY), *ANY, low=low, high=high)


def axis_of(b: Builder, rank: int) -> int:
    axis = b.chance.randrange(rank)
    return axis - rank if b.often(0.4) else axis


def factored(b: Builder, size: int) -> list[int]:
    """Random dimensions whose product is `size`."""
    dims = []
    while size > 1 and len(dims) < 4:
        divisors = [d for d in range(1, size + 1) if size % d == 0]
        dims.append(b.one(divisors))
        size //= dims[-1]
    dims.append(size)
    if b.often(0.3):
        dims.insert(b.chance.randrange(len(dims) + 1), 1)
    return dims[:6]


def reshape(b: Builder) -> None:
    x = any_of(b)
    if x.array.size == 0:
        raise Rejected
    dims = factored(b, x.array.size)
    if int(np.prod(dims)) != x.array.size:
        raise Rejected
    if b.often(0.4):
        dims[b.chance.randrange(len(dims))] = -1
    for k in range(min(len(dims), x.rank)):
        if dims[k] == x.shape[k] and b.often(0.3):
            dims[k] = 0
    b.emit("Reshape", [x, b.ints(*dims)], exact=True)


def transpose(b: Builder) -> None:
    x = any_of(b, 1)
    perm = list(range(x.rank))
    b.chance.shuffle(perm)
    b.emit("Transpose", [x], exact=True, **({} if b.often(0.1) else {"perm": perm}))


def ranks(b: Builder) -> None:
    x = any_of(b)
    if b.often(0.5) and x.rank < 5:
        b.emit("Unsqueeze", [x, b.ints(b.chance.randint(-x.rank - 1, x.rank))], exact=True)
    elif 1 in x.shape and b.often(0.7):
        axis = b.one([k for k, n in enumerate(x.shape) if n == 1])
        b.emit(
            "Squeeze",
            [x, b.ints(axis - x.rank if b.often(0.4) else axis)] if b.often(0.8) else [x],
            exact=True,
        )
    elif x.rank:
        b.emit("Flatten", [x], exact=True, axis=b.chance.randint(-x.rank, x.rank))


def expand(b: Builder) -> None:
    x = any_of(b, 0, 4)
    if b.often(0.5):
        wide = [b.size() if n == 1 else b.one([1, n]) for n in x.shape]
        if b.often(0.3):
            wide.insert(0, b.one([1, 2, 3]))
        b.emit("Expand", [x, b.ints(*wide)], exact=True)
    elif x.rank:
        b.emit(
            "Tile", [x, b.ints(*(b.one([1, 1, 2, 3, 0 if b.often(0.1) else 1]) for _ in x.shape))], exact=True
        )


def cut(b: Builder) -> None:
    x = any_of(b, 1)
    axes = b.chance.sample(range(x.rank), b.chance.randint(1, x.rank))
    starts, ends, steps = [], [], []
    for axis in axes:
        n = x.shape[axis]
        step = b.one([1, 1, 1, 2, 3, -1, -2])
        first, last = sorted(b.chance.randint(0, max(n, 1)) for _ in range(2))
        if step < 0:
            first, last = last, first
            if b.often(0.3):
                last = -(2**31)
        elif b.often(0.3):
            last = 2**63 - 1
        elif b.often(0.3) and n:
            first -= n
        starts, ends, steps = [*starts, first], [*ends, last], [*steps, step]
    named = [a - x.rank if b.often(0.3) else a for a in axes]
    b.emit("Slice", [x, b.ints(*starts), b.ints(*ends), b.ints(*named), b.ints(*steps)], exact=True)


def split(b: Builder) -> None:
    x = any_of(b, 1)
    axis = axis_of(b, x.rank)
    n = x.shape[axis]
    parts = b.chance.randint(1, 4)
    if b.often(0.5):
        marks = sorted(b.chance.randint(0, n) for _ in range(parts - 1))
        sizes = [q - p for p, q in zip([0, *marks], [*marks, n], strict=True)]
        found = b.emit("Split", [x, b.ints(*sizes)], parts, exact=True, axis=axis)
    else:
        if n < parts:
            raise Rejected
        found = b.emit("Split", [x], parts, exact=True, axis=axis, num_outputs=parts)
    if b.often(0.3) and len(found) > 1:
        b.chance.shuffle(found)
        b.emit("Concat", found, exact=True, axis=axis)


def concat(b: Builder) -> None:
    x = any_of(b, 1)
    axis = axis_of(b, x.rank)
    at = axis % x.rank

    def fits(v: Value) -> bool:
        same = v.dtype == x.dtype and v.rank == x.rank
        return same and all(p == q for k, (p, q) in enumerate(zip(v.shape, x.shape, strict=True)) if k != at)

    many = [x]
    for _ in range(b.chance.randint(1, 3)):
        shape = (*x.shape[:at], b.size(), *x.shape[at + 1 :])
        many.append(b.pick(fits, lambda shape=shape: b.fresh(x.dtype, shape)))  # type: ignore[misc]
    b.chance.shuffle(many)
    b.emit("Concat", many, exact=True, axis=axis)


def pad(b: Builder) -> None:
    x = any_of(b, 1, 4)
    mode = b.one(["constant", "constant", "reflect", "edge", "wrap"])
    low = -1 if b.often(0.2) else 0
    axes = list(range(x.rank))
    if b.often(0.3):
        axes = b.chance.sample(axes, b.chance.randint(1, x.rank))
    most = min((x.shape[a] - 1 for a in axes), default=0)
    if mode == "reflect" and most < 0:
        raise Rejected
    pads = [b.chance.randint(low, min(3, most) if mode == "reflect" else 3) for _ in range(2 * len(axes))]
    inputs: list[Value | None] = [x, b.ints(*pads)]
    if mode == "constant" and b.often(0.5):
        inputs.append(b.leaf(b.numbers_of(x.dtype, ()), True))
    if len(axes) < x.rank:
        inputs += [None] * (3 - len(inputs)) + [b.ints(*(a - x.rank if b.often(0.3) else a for a in axes))]
    b.emit("Pad", inputs, exact=True, mode=mode)


def indices(b: Builder, bound: int, shape: Shape) -> Value:
    if bound == 0:
        raise Rejected
    found = b.numbers.integers(-bound if b.often(0.3) else 0, bound, shape)
    return b.leaf(found.astype(b.one([np.int64, np.int32])))


def gather(b: Builder) -> None:
    x = any_of(b, 1, 4)
    way = b.chance.randrange(4)
    axis = axis_of(b, x.rank)
    if way <= 1:
        b.emit("Gather", [x, indices(b, x.shape[axis], b.some_shape(0, 2))], exact=True, axis=axis)
    elif way == 2:
        shape = tuple(b.chance.randint(1, n) if n else 0 for n in x.shape)
        shape = (*shape[: axis % x.rank], b.size(), *shape[axis % x.rank + 1 :])
        b.emit("GatherElements", [x, indices(b, x.shape[axis], shape)], exact=True, axis=axis)
    else:
        batch = b.chance.randint(0, max(0, x.rank - 1)) if b.often(0.3) else 0
        last = b.chance.randint(1, x.rank - batch)
        if 0 in x.shape:
            raise Rejected
        bounds = x.shape[batch : batch + last]
        rest = (*x.shape[:batch], *b.some_shape(0, 1))
        picked = np.stack([b.numbers.integers(-n, n, rest) for n in bounds], -1).astype(np.int64)
        b.emit("GatherND", [x, b.leaf(picked)], exact=True, batch_dims=batch)


def scatter(b: Builder) -> None:
    """Every place once, unless the updates are combined."""
    x = b.of("float32", "int64", "int32", "float16", low=1, high=4)
    if 0 in x.shape:
        raise Rejected
    how = b.one(["none", "none", "add", "mul", "max", "min"])
    axis = axis_of(b, x.rank)
    at = axis % x.rank
    if b.often(0.5):
        n = b.chance.randint(1, x.shape[at])
        shape = (
            *(b.chance.randint(1, m) for m in x.shape[:at]),
            n,
            *(b.chance.randint(1, m) for m in x.shape[at + 1 :]),
        )
        order = np.argsort(b.numbers.random((*shape[:at], x.shape[at], *shape[at + 1 :])), at)
        places = np.take(order, range(n), at).astype(np.int64)
        if b.often(0.3):
            places -= x.shape[at]
        updates = b.fresh(x.dtype, shape, -2, 2)
        b.emit(
            "ScatterElements",
            [x, b.leaf(places), updates],
            exact=how in ("none", "max", "min"),
            axis=axis,
            reduction=how,
        )
    else:
        last = b.chance.randint(1, x.rank)
        cells = int(np.prod(x.shape[:last]))
        n = b.chance.randint(1, min(cells, 9))
        flat = b.numbers.permutation(cells)[:n]
        places = np.stack(np.unravel_index(flat, x.shape[:last]), -1).astype(np.int64)
        updates = b.fresh(x.dtype, (n, *x.shape[last:]), -2, 2)
        b.emit("ScatterND", [x, b.leaf(places), updates], exact=how in ("none", "max", "min"), reduction=how)


def orders(b: Builder) -> None:
    """What depends on comparisons of elements: exact ones only."""
    x = b.of("float32", "int64", "int32", "float16", "uint8", "int8", low=1, high=4, exact=True)
    axis = axis_of(b, x.rank)
    n = x.shape[axis]
    way = b.chance.randrange(4)
    if n == 0 or x.array.size == 0 or (x.array != x.array).any():
        raise Rejected  # where a NaN stands, peers differ
    if way <= 1:
        op = b.one(["ArgMax", "ArgMin"])
        b.emit(
            op,
            [x],
            exact=True,
            axis=axis,
            keepdims=b.chance.randrange(2),
            select_last_index=b.chance.randrange(2),
        )
    elif way == 2:
        k = b.ints(b.chance.randint(1, n))
        b.emit("TopK", [x, k], 2, exact=True, axis=axis, largest=b.chance.randrange(2), sorted=1)
    else:
        b.emit(
            "CumSum",
            [x, b.leaf(np.array(axis, np.int64), True)],
            exclusive=b.chance.randrange(2),
            reverse=b.chance.randrange(2),
        )


def blocks(b: Builder) -> None:
    block = b.one([2, 3])
    if b.often(0.5):
        x = b.fresh("float32", (b.one([1, 2]), block * block * b.one([1, 2, 3]), b.size(), b.size()))
        b.emit("DepthToSpace", [x], exact=True, blocksize=block, mode=b.one(["DCR", "CRD"]))
    else:
        x = b.fresh(
            "float32", (b.one([1, 2]), b.one([1, 2, 3]), block * b.one([1, 2, 4]), block * b.one([1, 3]))
        )
        b.emit("SpaceToDepth", [x], exact=True, blocksize=block)


def shapes(b: Builder) -> None:
    """Arithmetic on shapes, as exporters write it: Shape, Gather, Concat, Reshape."""
    x = any_of(b, 1, 4)
    if x.array.size == 0:
        raise Rejected
    (dims,) = b.emit("Shape", [x], exact=True)
    axis = axis_of(b, x.rank)
    (one,) = b.emit("Gather", [dims, b.ints(axis)], exact=True, axis=0)
    (both,) = b.emit("Concat", swap(b, one, b.ints(-1)), exact=True, axis=0)
    b.emit("Reshape", [x, both], exact=True)


def swap(b: Builder, x: Value, y: Value) -> list[Value]:
    return [x, y] if b.often(0.5) else [y, x]


def triangles(b: Builder) -> None:
    x = any_of(b, 2, 4)
    b.emit("Trilu", [x, b.ints_scalar(b.chance.randint(-3, 3))], exact=True, upper=b.chance.randrange(2))


def one_hot(b: Builder) -> None:
    depth = b.chance.randint(1, 6)
    # where values are infinite, onnxruntime is asked too, and takes no scalar
    shape = b.some_shape(1 if b.extremes else 0, 2)
    places = b.leaf(b.numbers.integers(-depth, depth, shape).astype(b.one([np.int64, np.int32])))
    values = b.finite(b.fresh(b.one(["float32", "int64", "int32"]), (2,)))
    axis = b.chance.randint(-len(shape) - 1, len(shape))
    # the reference computes the values from their difference
    b.emit("OneHot", [places, b.leaf(np.array(depth, np.int64), True), values], axis=axis)


def turned(b: Builder) -> None:
    time = b.one([0, 1])
    x = b.fresh(b.one(["float32", "int64"]), (b.chance.randint(1, 6), b.chance.randint(1, 6), b.size()))
    lengths = b.numbers.integers(1, x.shape[time] + 1, x.shape[1 - time])
    b.emit("ReverseSequence", [x, b.leaf(lengths)], exact=True, time_axis=time, batch_axis=1 - time)


def found(b: Builder) -> None:
    """Shapes that the data decide."""
    x = any_of(b, 1, 3)
    way = b.chance.randrange(3)
    if way == 0 and x.exact:
        b.emit("NonZero", [x], exact=True)
    elif way == 1 and x.rank:
        axis = axis_of(b, x.rank)
        b.emit("Compress", [x, b.fresh("bool", (x.shape[axis],))], exact=True, axis=axis)
    elif x.exact and x.dtype in ("float32", "int64", "int8") and x.array.size:
        b.emit("Unique", [x], 4, exact=True, sorted=1)


MOVES = {
    reshape: 5, transpose: 5, ranks: 3, expand: 3, cut: 4, split: 3, concat: 4, pad: 3, gather: 4, scatter: 2,
    orders: 3, blocks: 1, shapes: 2, triangles: 1, one_hot: 1, turned: 1, found: 1,
}  # fmt: skip
