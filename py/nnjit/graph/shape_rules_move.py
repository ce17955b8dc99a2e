"""Shape rules: operators that move, select or repeat elements."""

from __future__ import annotations

from math import prod

from . import dtypes
from .const import Shape
from .ir import Node
from .shape_rules import axis_of, broadcast, fail, given, ints, put, rule


@rule("Shape")
def shape_of(node: Node) -> None:
    shape = given(node).shape
    if shape is None:
        put(node, "i64", None)
        return
    start, end = node.attrs.get("start", 0), node.attrs.get("end", len(shape))
    put(node, "i64", (len(shape[slice(start, end)]),))


@rule("Size")
def size(node: Node) -> None:
    put(node, "i64", ())


@rule("Reshape")
def reshape(node: Node) -> None:
    x, target = given(node), ints(node.input(1))
    shape = None
    if target is not None:
        if x.shape is not None:
            shape = resolve_reshape(node, x.shape, target, bool(node.attrs.get("allowzero", 0)))
        elif all(d > 0 for d in target):
            shape = tuple(target)
    put(node, x.dtype, shape)


def resolve_reshape(node: Node, shape: Shape, target: list[int], allowzero: bool) -> Shape:
    """The concrete shape that 0 (copy) and -1 (whatever is left) stand for."""
    dims = list(target)
    if not allowzero:
        for i, d in enumerate(dims):
            if d == 0:
                if i >= len(shape):
                    fail(
                        node, f"dim {i} is to be copied, the input has rank {len(shape)}", target, list(shape)
                    )
                dims[i] = shape[i]
    total = prod(shape)
    if dims.count(-1) > 1 or any(d < -1 for d in dims):
        fail(node, "its target shape has more than one open dim", "one -1 at most", target)
    if -1 in dims:
        known = prod(d for d in dims if d != -1)
        if known == 0 or total % known:
            fail(node, f"{total} elements do not divide by {known}", target, list(shape))
        dims[dims.index(-1)] = total // known
    if prod(dims) != total:
        fail(node, f"{total} elements cannot take the shape {dims}", target, list(shape))
    return tuple(dims)


@rule("Flatten")
def flatten(node: Node) -> None:
    x = given(node)
    shape = None
    if x.shape is not None:
        axis = node.attrs.get("axis", 1)
        axis = axis_of(node, axis, len(x.shape)) if axis < 0 else axis
        if axis > len(x.shape):
            fail(node, f"axis {axis} is out of range", len(x.shape), axis)
        shape = (prod(x.shape[:axis]), prod(x.shape[axis:]))
    put(node, x.dtype, shape)


@rule("Transpose")
def transpose(node: Node) -> None:
    x = given(node)
    shape = None
    if x.shape is not None:
        perm = node.attrs.get("perm") or list(range(len(x.shape)))[::-1]
        if sorted(perm) != list(range(len(x.shape))):
            fail(node, f"perm {perm} does not permute {len(x.shape)} axes", list(range(len(x.shape))), perm)
        shape = tuple([x.shape[p] for p in perm])
    put(node, x.dtype, shape)


@rule("Squeeze")
def squeeze(node: Node) -> None:
    x, axes = given(node), node.input(1)
    known = ints(axes)
    shape = None
    if x.shape is not None and (axes is None or known is not None):
        if known is None:
            gone = {i for i, d in enumerate(x.shape) if d == 1}
        else:
            gone = {axis_of(node, a, len(x.shape)) for a in known}
            bad = [a for a in gone if x.shape[a] != 1]
            if bad:
                fail(node, f"axis {bad[0]} is {x.shape[bad[0]]}, only 1 can go", 1, x.shape[bad[0]])
        shape = tuple([d for i, d in enumerate(x.shape) if i not in gone])
    put(node, x.dtype, shape)


@rule("Unsqueeze")
def unsqueeze(node: Node) -> None:
    x, axes = given(node), ints(node.input(1))
    shape = None
    if x.shape is not None and axes is not None:
        rank = len(x.shape) + len(axes)
        new = {axis_of(node, a, rank) for a in axes}
        if len(new) != len(axes):
            fail(node, f"axes {axes} repeat", "distinct axes", axes)
        rest = iter(x.shape)
        shape = tuple([1 if i in new else next(rest) for i in range(rank)])
    put(node, x.dtype, shape)


@rule("Expand")
def expand(node: Node) -> None:
    x, target = given(node), ints(node.input(1))
    put(node, x.dtype, None if target is None else broadcast(node, [x.shape, tuple(target)]))


@rule("Tile")
def tile(node: Node) -> None:
    x, repeats = given(node), ints(node.input(1))
    shape = None
    if x.shape is not None and repeats is not None:
        if len(repeats) != len(x.shape):
            fail(node, "repeats must name every axis", len(x.shape), len(repeats))
        shape = tuple([d * r for d, r in zip(x.shape, repeats, strict=True)])
    put(node, x.dtype, shape)


@rule("Concat")
def concat(node: Node) -> None:
    values = [given(node, i) for i in range(len(node.inputs))]
    first = values[0].shape
    shapes = [v.shape for v in values]
    shape = None
    if first is not None and None not in shapes:
        axis = axis_of(node, node.attrs["axis"], len(first))
        total = 0
        for other in shapes:
            assert other is not None
            if (
                len(other) != len(first)
                or other[:axis] != first[:axis]
                or other[axis + 1 :] != first[axis + 1 :]
            ):
                fail(node, f"its operands differ outside axis {axis}", list(first), list(other))
            total += other[axis]
        shape = (*first[:axis], total, *first[axis + 1 :])
    put(node, next((v.dtype for v in values if v.dtype), ""), shape)


@rule("Split")
def split(node: Node) -> None:
    x, parts = given(node), node.input(1)
    sizes = ints(parts)
    count = len(node.outputs)
    if x.shape is None or (parts is not None and sizes is None):
        for i in range(count):
            put(node, x.dtype, None, i)
        return
    axis = axis_of(node, node.attrs.get("axis", 0), len(x.shape))
    total = x.shape[axis]
    if sizes is None:
        n = node.attrs.get("num_outputs", count)
        chunk = -(-total // n)
        sizes = [max(min(chunk, total - i * chunk), 0) for i in range(n)]
    if sum(sizes) != total or len(sizes) < count:
        fail(node, f"parts {sizes} do not make up axis {axis}", total, sum(sizes))
    for i in range(count):
        put(node, x.dtype, (*x.shape[:axis], sizes[i], *x.shape[axis + 1 :]), i)


def slices(node: Node, shape: Shape) -> list[slice] | None:
    """The slice of each axis that a Slice node takes, clamped as numpy does; None when not known."""
    starts, ends = ints(node.input(1)), ints(node.input(2))
    axes, steps = ints(node.input(3)), ints(node.input(4))
    if starts is None or ends is None:
        return None
    if (axes is None and node.input(3) is not None) or (steps is None and node.input(4) is not None):
        return None
    taken = [slice(None)] * len(shape)
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = axis_of(node, axes[i] if axes is not None else i, len(shape))
        step = steps[i] if steps is not None else 1
        if step == 0:
            fail(node, "its step is 0", "a step other than 0", 0)
        dim = shape[axis]
        start += dim if start < 0 else 0
        end += dim if end < 0 else 0
        if step > 0:
            taken[axis] = slice(min(max(start, 0), dim), min(max(end, 0), dim), step)
        else:
            # An end before the first element is spelt None: -1 would mean the last one.
            low = min(max(end, -1), dim - 1)
            taken[axis] = slice(min(max(start, 0), dim - 1) if dim else 0, low if low >= 0 else None, step)
    return taken


@rule("Slice")
def slice_(node: Node) -> None:
    x = given(node)
    taken = None if x.shape is None else slices(node, x.shape)
    if taken is None or x.shape is None:
        put(node, x.dtype, None)
        return
    put(node, x.dtype, [len(range(*s.indices(d))) for s, d in zip(taken, x.shape, strict=True)])


@rule("Gather")
def gather(node: Node) -> None:
    x, indices = given(node), given(node, 1)
    shape = None
    if x.shape is not None and indices.shape is not None:
        axis = axis_of(node, node.attrs.get("axis", 0), len(x.shape))
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    put(node, x.dtype, shape)


@rule("GatherElements")
def gather_elements(node: Node) -> None:
    put(node, given(node).dtype, given(node, 1).shape)


@rule("GatherND")
def gather_nd(node: Node) -> None:
    x, indices = given(node), given(node, 1)
    shape = None
    if x.shape is not None and indices.shape is not None:
        batch = node.attrs.get("batch_dims", 0)
        if not indices.shape or batch + indices.shape[-1] > len(x.shape):
            fail(node, "its indices name more axes than the data has", len(x.shape), list(indices.shape))
        shape = (*indices.shape[:-1], *x.shape[batch + indices.shape[-1] :])
    put(node, x.dtype, shape)


@rule("ConstantOfShape")
def constant_of_shape(node: Node) -> None:
    value = node.attrs.get("value")
    target = ints(node.input(0))
    if target is not None and any(d < 0 for d in target):
        fail(node, "a dim is negative", "0 or more", target)
    put(node, dtypes.from_numpy(value.dtype) if value is not None else "f32", target)


@rule("Pad")
def pad(node: Node) -> None:
    x, pads = given(node), ints(node.input(1))
    axes = ints(node.input(3))
    shape = None
    if x.shape is not None and pads is not None and (axes is not None or node.input(3) is None):
        where = range(len(x.shape)) if axes is None else [axis_of(node, a, len(x.shape)) for a in axes]
        if len(pads) != 2 * len(where):
            fail(node, "pads must hold a begin and an end an axis", 2 * len(where), len(pads))
        dims = list(x.shape)
        for i, axis in enumerate(where):
            dims[axis] += pads[i] + pads[i + len(where)]
        if any(d < 0 for d in dims):
            fail(node, f"pads {pads} cut off more than there is", "0 or more", dims)
        shape = tuple(dims)
    put(node, x.dtype, shape)


@rule("DepthToSpace")
def depth_to_space(node: Node) -> None:
    x, b = given(node), node.attrs["blocksize"]
    if x.shape is None:
        put(node, x.dtype, None)
        return
    n, c, h, w = _four(node, x.shape)
    if c % (b * b):
        fail(node, f"{c} channels do not divide by {b}²", b * b, c)
    put(node, x.dtype, (n, c // (b * b), h * b, w * b))


@rule("SpaceToDepth")
def space_to_depth(node: Node) -> None:
    x, b = given(node), node.attrs["blocksize"]
    if x.shape is None:
        put(node, x.dtype, None)
        return
    n, c, h, w = _four(node, x.shape)
    if h % b or w % b:
        fail(node, f"{h}x{w} does not divide by {b}", b, [h, w])
    put(node, x.dtype, (n, c * b * b, h // b, w // b))


def _four(node: Node, shape: Shape) -> tuple[int, int, int, int]:
    if len(shape) != 4:
        fail(node, "its input must have rank 4", 4, len(shape))
    n, c, h, w = shape
    return n, c, h, w


@rule("OneHot")
def one_hot(node: Node) -> None:
    indices, depth = given(node), ints(node.input(1))
    shape = None
    if indices.shape is not None and depth is not None:
        rank = len(indices.shape)
        axis = axis_of(node, node.attrs.get("axis", -1), rank + 1)
        shape = (*indices.shape[:axis], int(depth[0]), *indices.shape[axis:])
    put(node, given(node, 2).dtype, shape)


@rule("EyeLike")
def eye_like(node: Node) -> None:
    x, to = given(node), node.attrs.get("dtype", 0)
    put(node, dtypes.FROM_ONNX[to] if to else x.dtype, x.shape)


@rule("NonZero")
def non_zero(node: Node) -> None:
    put(node, "i64", None)


@rule("Compress")
def compress(node: Node) -> None:
    put(node, given(node).dtype, None)


@rule("NonMaxSuppression")
def non_max_suppression(node: Node) -> None:
    put(node, "i64", None)


@rule("Unique")
def unique(node: Node) -> None:
    put(node, given(node).dtype, None)
    for i in (1, 2, 3):
        put(node, "i64", None, i)
