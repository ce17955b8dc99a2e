"""Detection, segmentation, depth, super-resolution, diffusion: YOLO, DETR, U-Net, DPT, SRGAN, a VAE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from tests.fuzz.families import parts as p
from tests.fuzz.families.net import Net


def yolo(opset: int = 12, size: int = 64, form: str = "v8", dtype: str = "float32", end: bool = False) -> Net:
    """C2f or C3 blocks, SPPF's three pools, two scales, a softmax over 16 bins. end: NonMaxSuppression follows."""
    n = Net(opset, dtype)
    x = n.feed("images", (1, 3, size, size), [1, 3, "height", "width"])

    def block(y: str, cin: int, cout: int, k: int = 3, s: int = 1, group: int = 1) -> str:
        return p.silu(n, p.conv(n, y, cin, cout, k, s, group))

    def c2f(y: str, c: int, skip: bool) -> str:
        half = c // 2
        a, b = n.split(block(y, c, c, 1), [half, half], 1)
        z = block(block(b, half, half), half, half)
        z = n.Add(b, z) if skip else z
        return block(n.Concat(a, b, z, axis=1), c + half, c, 1)

    y = block(block(x, 3, 8, 3, 2), 8, 16, 3, 2)
    y = c2f(y, 16, True)
    p3 = c2f(block(y, 16, 24, 3, 2), 24, True)
    p4 = block(p3, 24, 32, 3, 2)
    a = block(p4, 32, 16, 1)
    pools = [a]
    for _ in range(3):
        pools.append(
            n.MaxPool(pools[-1], kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4, dilations=[1, 1])
        )
    p4 = block(n.Concat(*pools, axis=1), 64, 32, 1)
    if form == "v11":
        p4 = area_attention(n, p4, 32)
    up = n.resize(
        p4, [1, 1, 2, 2], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    p3 = c2f(block(n.Concat(up, p3, axis=1), 56, 24, 1), 24, False)
    p4 = c2f(block(n.Concat(block(p3, 24, 32, 3, 2), p4, axis=1), 64, 32, 1), 32, False)
    head = anchors if form == "v5" else bins
    y = head(n, [(p3, 24, size // 8, 8), (p4, 32, size // 16, 16)])
    n.output(y)
    if end:
        selected(n, y)
    return n


def area_attention(n: Net, x: str, c: int) -> str:
    """YOLO 11's attention over pixels: q, k and v of different depths split off one Conv, a depthwise one."""
    heads, key, depth = 2, c // 4, c // 2
    shape = n.Shape(x)
    qkv = p.conv(n, x, c, heads * (2 * key + depth), 1)
    b, h, w = (n.Gather(shape, i, axis=0) for i in (0, 2, 3))
    area = n.Mul(h, w)
    q, k, v = n.split(n.reshape_by(qkv, b, heads, 2 * key + depth, area), [key, key, depth], 2)
    s = n.Mul(n.MatMul(n.Transpose(q, perm=[0, 1, 3, 2]), k), float(key**-0.5))
    y = n.MatMul(v, n.Transpose(n.Softmax(s, axis=-1), perm=[0, 1, 3, 2]))
    y = n.reshape_by(y, b, c, h, w)
    return str(n.Add(p.conv(n, n.Add(y, p.conv(n, n.Reshape(v, n.Shape(y)), c, c, 3, group=c)), c, c, 1), x))


def bins(n: Net, levels: Sequence[tuple[str, int, int, int]]) -> str:
    """Distances as means over 16 bins (a Conv with 0 .. 15), boxes around anchor points, times the stride."""
    classes, flat, points, strides = 5, [], [], []
    for y, c, side, stride in levels:
        box = p.conv(n, p.silu(n, p.conv(n, y, c, 16)), 16, 64, 1)
        score = p.conv(n, p.silu(n, p.conv(n, y, c, 16)), 16, classes, 1)
        flat.append(n.Reshape(n.Concat(box, score, axis=1), [1, 64 + classes, -1]))
        grid = np.stack(np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5)).reshape(2, -1)
        points.append(grid)
        strides.append(np.full((1, side * side), stride))
    box, score = n.split(n.Concat(*flat, axis=2), [64, classes], 1)
    dims = n.Shape(box)
    many = n.Gather(dims, 2, axis=0)
    d = n.Transpose(n.reshape_by(box, 1, 4, 16, many), perm=[0, 2, 1, 3])
    weights = n.hold(np.arange(16).reshape(1, 16, 1, 1).astype(n.dtype))
    d = n.reshape_by(n.Conv(n.Softmax(d, axis=1), weights), 1, 4, many)
    near, far = n.Slice(d, [0], [2], [1]), n.Slice(d, [2], [4], [1])
    at = n.constant(np.concatenate(points, 1)[None].astype(n.dtype))
    low, high = n.Sub(at, near), n.Add(at, far)
    box = n.Concat(n.Div(n.Add(low, high), 2.0), n.Sub(high, low), axis=1)
    box = n.Mul(box, n.constant(np.concatenate(strides, 1).astype(n.dtype)))
    return str(n.Concat(box, n.Sigmoid(score), axis=1))


def anchors(n: Net, levels: Sequence[tuple[str, int, int, int]]) -> str:
    """YOLO 5: three anchors a place, [1, 3, h, w, 5 + classes], sigmoids, squares, boxes by Slice and Concat."""
    made, classes = [], 4
    for y, c, side, stride in levels:
        z = n.Reshape(p.conv(n, y, c, 3 * (5 + classes), 1), [1, 3, 5 + classes, side, side])
        z = n.Sigmoid(n.Transpose(z, perm=[0, 1, 3, 4, 2]))
        xy, wh, rest = n.split(z, [2, 2, 1 + classes], 4)
        grid = (
            np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1)[None, None].astype(np.float32) - 0.5
        )
        xy = n.Mul(n.Add(n.Mul(xy, 2.0), n.constant(grid)), float(stride))
        sizes = np.broadcast_to(n.normal((1, 3, 1, 1, 2), 20), (1, 3, side, side, 2)).copy()
        wh = n.Mul(n.Pow(n.Mul(wh, 2.0), 2.0), n.constant(sizes))
        made.append(n.Reshape(n.Concat(xy, wh, rest, axis=4), [1, -1, 5 + classes]))
    return str(n.Transpose(n.Concat(*made, axis=1), perm=[0, 2, 1]))


def selected(n: Net, y: str) -> None:
    """Boxes kept, gathered by the selected indices, whose number is known at run time only."""
    box, score = n.split(y, [4, 5], 1)
    box = n.Transpose(box, perm=[0, 2, 1])
    at = n.NonMaxSuppression(
        box, score, 20, n.constant(np.float32(0.5)), n.constant(np.float32(0.4)), center_point_box=1
    )
    batch, kind, place = (n.Gather(at, i, axis=1) for i in range(3))
    n.output(
        at,
        n.GatherND(box, n.Concat(n.unsqueeze(batch, 1), n.unsqueeze(place, 1), axis=1)),
        n.cast(kind, "float32"),
    )


def detr(opset: int = 16, side: int = 5) -> Net:
    """A backbone with frozen norms, sine positions from CumSum of a mask, an encoder and queries that attend to it."""
    n = Net(opset)
    wide, heads, queries = 32, 4, 7
    x = n.feed("pixel_values", (1, 3, 8 * side, 8 * side), [1, 3, "h", "w"])
    shown = np.ones((1, 8 * side, 8 * side), np.int64)
    shown[:, :, 6 * side :] = 0
    mask = n.feed("pixel_mask", shown, [1, "h", "w"])
    y = p.conv(n, x, 3, 24, 7, 4)
    scale, shift = n.weight(1, 24, 1, 1, scale=0.2, middle=1), n.weight(1, 24, 1, 1, scale=0.1)
    y = n.Relu(n.Add(n.Mul(y, scale), shift))
    y = p.conv(n, n.Relu(p.conv(n, y, 24, 40, 3, 2)), 40, wide, 1)
    sizes = n.Slice(n.Shape(y), [2], [4], [0])
    small = n.resize(n.unsqueeze(n.cast(mask, "float32"), 0), None,
                     n.Concat(n.constant([1, 1]), sizes, axis=0), mode="nearest", nearest_mode="floor",
                     coordinate_transformation_mode="asymmetric")  # fmt: skip
    seen = n.cast(n.cast(n.squeeze(small, 0), "bool"), "float32")
    parts = []
    for axis in (1, 2):
        where = n.CumSum(seen, n.constant(np.int64(axis)))
        last = n.Slice(where, [-1], [np.iinfo(np.int64).max], [axis])
        where = n.Mul(n.Div(where, n.Add(last, 1e-6)), 6.2831855)
        powers = (10000 ** (2 * (np.arange(16) // 2) / 16)).astype(np.float32)
        angle = n.Div(n.unsqueeze(where, 3), n.constant(powers))
        even, odd = (n.Slice(angle, [s], [np.iinfo(np.int64).max], [3], [2]) for s in (0, 1))
        both = n.Concat(n.unsqueeze(n.Sin(even), 4), n.unsqueeze(n.Cos(odd), 4), axis=4)
        parts.append(n.Reshape(both, [0, 0, 0, -1]))
    pos = n.Reshape(n.Concat(*parts, axis=3), [1, -1, wide])
    y = n.Transpose(n.Flatten(n.squeeze(y, 0), axis=1), perm=[1, 0])
    y = n.unsqueeze(y, 0)
    gone = n.Equal(n.Reshape(seen, [1, 1, 1, -1]), n.constant(np.float32(0)))
    bias = n.Where(gone, n.constant(np.float32(-np.inf)), n.constant(np.float32(0)))
    y = p.layer_norm(n, n.Add(y, attention(n, n.Add(y, pos), n.Add(y, pos), y, wide, heads, bias)), wide)
    y = p.layer_norm(n, n.Add(y, p.linear(n, n.Relu(p.linear(n, y, wide, 64)), 64, wide)), wide)
    query = n.unsqueeze(n.weight(queries, wide, scale=1), 0)
    z = n.ConstantOfShape(n.constant(np.int64([1, queries, wide])))
    z = p.layer_norm(n, n.Add(z, attention(n, n.Add(z, query), n.Add(z, query), z, wide, heads, None)), wide)
    z = p.layer_norm(n, n.Add(z, attention(n, n.Add(z, query), n.Add(y, pos), y, wide, heads, bias)), wide)
    boxes = p.linear(n, n.Relu(p.linear(n, z, wide, wide)), wide, 4)
    n.output(p.linear(n, z, wide, 6), n.Sigmoid(boxes))
    return n


def attention(n: Net, q: str, k: str, v: str, wide: int, heads: int, bias: str | None) -> str:
    """Heads in one batch of bmm: [B * H, S, D]."""
    depth = wide // heads

    def cut(x: str) -> str:
        y = n.Transpose(n.Reshape(p.linear(n, x, wide, wide), [1, -1, heads, depth]), perm=[0, 2, 1, 3])
        return str(n.Reshape(y, [heads, -1, depth]))

    a, b, c = n.Mul(cut(q), float(depth**-0.5)), cut(k), cut(v)
    s = n.MatMul(a, n.Transpose(b, perm=[0, 2, 1]))
    if bias is not None:
        rows = n.Shape(s)
        four = n.Concat(n.constant([1, heads]), n.Slice(rows, [1], [3], [0]), axis=0)
        s = n.Reshape(n.Add(n.Reshape(s, four), bias), rows)
    y = n.MatMul(n.Softmax(s, axis=-1), c)
    y = n.Reshape(n.Transpose(n.Reshape(y, [1, heads, -1, depth]), perm=[0, 2, 1, 3]), [1, -1, wide])
    return p.linear(n, y, wide, wide)


def unet(opset: int = 11, size: int = 40, up: str = "transpose") -> Net:
    """Two levels with skips, ConvTranspose or Resize upwards, crops by Pad with computed amounts, ArgMax at the end."""
    n = Net(opset)
    x = n.feed("x", (1, 3, size, size), ["n", 3, "h", "w"])

    def double(y: str, cin: int, cout: int) -> str:
        for c in (cin, cout):
            y = n.Relu(p.batch_norm(n, p.conv(n, y, c, cout, bias=False), cout))
        return y

    first = double(x, 3, 12)
    second = double(n.MaxPool(first, kernel_shape=[2, 2], strides=[2, 2]), 12, 20)
    y = double(n.MaxPool(second, kernel_shape=[2, 2], strides=[2, 2]), 20, 28)
    for skip, cin, cout in ((second, 28, 20), (first, 20, 12)):
        if up == "transpose":
            w, b = n.weight(cin, cout, 2, 2, scale=0.2), n.weight(cout, scale=0.1)
            y = n.ConvTranspose(y, w, b, kernel_shape=[2, 2], strides=[2, 2])
        else:
            y = n.resize(y, [1, 1, 2, 2], mode="linear",
                         coordinate_transformation_mode="align_corners")  # fmt: skip
            y = p.conv(n, y, cin, cout, 1)
        apart = [n.Sub(n.dim(skip, d), n.dim(y, d)) for d in (2, 3)]
        half = [n.Div(d, n.constant(2)) for d in apart]
        rest = [n.Sub(d, h) for d, h in zip(apart, half, strict=True)]
        none = n.constant([0, 0])
        pads = n.Concat(
            none, *(n.unsqueeze(h, 0) for h in half), none, *(n.unsqueeze(r, 0) for r in rest), axis=0
        )
        y = n.Pad(y, pads, n.constant(np.float32(0)))
        y = double(n.Concat(skip, y, axis=1), 2 * cout, cout)
    y = p.conv(n, y, 12, 4, 1)
    n.output(n.ArgMax(y, axis=1, keepdims=0), n.Softmax(y, axis=1) if opset >= 13 else n.Sigmoid(y))
    return n


def deeplab(opset: int = 13, size: int = 32) -> Net:
    """Dilated convolutions side by side, an image pooled and enlarged again, bilinear to the sizes of the input."""
    n = Net(opset)
    x = n.feed("x", (1, 3, size, size + 5), ["n", 3, "h", "w"])
    y = n.Relu(p.conv(n, n.Relu(p.conv(n, x, 3, 16, 3, 2)), 16, 24, 3, 2))
    many = [n.Relu(p.conv(n, y, 24, 8, 1))]
    many += [n.Relu(p.conv(n, y, 24, 8, 3, dilations=[d, d], pads=[d] * 4)) for d in (2, 4, 6)]
    pooled = n.Relu(p.conv(n, n.GlobalAveragePool(y), 24, 8, 1))
    sizes = n.Concat(n.constant([1, 8]), n.Slice(n.Shape(y), [2], [4], [0]), axis=0)
    many.append(
        n.resize(pooled, None, sizes, mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
    )
    y = p.conv(n, n.Relu(p.conv(n, n.Concat(*many, axis=1), 40, 16, 1)), 16, 5, 1)
    sizes = n.Concat(n.Slice(n.Shape(y), [0], [2], [0]), n.Slice(n.Shape(x), [2], [4], [0]), axis=0)
    y = n.resize(
        y, None, sizes, mode="linear", coordinate_transformation_mode="half_pixel", cubic_coeff_a=-0.75
    )
    n.output(y, n.ArgMax(y, axis=1, keepdims=1))
    return n


def depth(opset: int = 18, dtype: str = "float32") -> Net:
    """DPT: tokens to maps again, positions enlarged by a cubic Resize, fusion with align_corners, a Relu at the end."""
    n = Net(opset, dtype)
    wide = 24
    x = n.feed("pixel_values", (1, 3, 35, 49))
    y = p.conv(n, x, 3, wide, 7, 7, pads=[0] * 4)
    grid = n.Transpose(n.Reshape(n.weight(1, 16, wide, scale=0.3), [1, 4, 4, wide]), perm=[0, 3, 1, 2])
    grid = n.resize(grid, None, [1, wide, 5, 7], mode="cubic", cubic_coeff_a=-0.75,
                    coordinate_transformation_mode="pytorch_half_pixel")  # fmt: skip
    token = n.weight(1, 1, wide)
    y = n.Transpose(n.Reshape(y, [1, wide, -1]), perm=[0, 2, 1])
    places = n.Concat(
        n.weight(1, 1, wide), n.Transpose(n.Reshape(grid, [1, wide, -1]), perm=[0, 2, 1]), axis=1
    )
    y = n.Add(n.Concat(token, y, axis=1), places)
    levels = []
    for scale in (2, 1):
        y = n.Add(y, p.self_attention(n, p.layer_norm(n, y, wide), wide, 3, None, "both", "zero"))
        y = n.Add(y, n.Mul(n.weight(wide), p.mlp(n, p.layer_norm(n, y, wide), wide, 50)))
        z = n.Slice(y, [1], [np.iinfo(np.int64).max], [1])
        z = n.Reshape(n.Transpose(z, perm=[0, 2, 1]), [1, wide, 5, 7])
        if scale > 1:
            z = n.ConvTranspose(
                z,
                n.weight(wide, 16, scale, scale, scale=0.2),
                n.weight(16),
                kernel_shape=[2, 2],
                strides=[2, 2],
            )
        else:
            z = p.conv(n, z, wide, 16, 1)
        levels.append(z)
    low = n.Add(levels[1], p.conv(n, n.Relu(levels[1]), 16, 16))
    low = n.resize(low, None, [1, 16, 10, 14], mode="linear", coordinate_transformation_mode="align_corners")
    y = n.Add(low, p.conv(n, n.Relu(levels[0]), 16, 16))
    y = n.resize(
        p.conv(n, y, 16, 8),
        None,
        [1, 8, 35, 49],
        mode="linear",
        coordinate_transformation_mode="align_corners",
    )
    n.output(n.squeeze(n.Relu(p.conv(n, n.Relu(p.conv(n, y, 8, 8)), 8, 1, 1)), 1))
    return n


def super_resolution(opset: int = 14, size: int = 20) -> Net:
    """Dense blocks with LeakyRelu, DepthToSpace in both orders, a node or Reshape and Transpose; pads that reflect."""
    n = Net(opset)
    x = n.feed("x", (1, 3, size, size + 1), [1, 3, "h", "w"])
    y = n.Conv(n.Pad(x, [0, 0, 1, 1, 0, 0, 1, 1], mode="reflect"), n.weight(16, 3, 3, 3), n.weight(16))
    many = [y]
    for k in range(3):
        z = n.Concat(*many, axis=1) if k else y
        many.append(n.LeakyRelu(p.conv(n, z, 16 + 8 * k, 8), alpha=0.2))
    y = n.Add(n.Mul(p.conv(n, n.Concat(*many, axis=1), 40, 16), 0.2), y)
    y = n.PRelu(n.DepthToSpace(p.conv(n, y, 16, 64), blocksize=2, mode="CRD"), n.weight(16, 1, 1))
    y = p.conv(n, y, 16, 12)
    b, h, w = (n.dim(y, d) for d in (0, 2, 3))
    y = n.Transpose(n.reshape_by(y, b, 3, 2, 2, h, w), perm=[0, 1, 4, 2, 5, 3])
    two = n.constant(2)
    y = n.reshape_by(y, b, 3, n.Mul(h, two), n.Mul(w, two))
    back = n.resize(x, [1, 1, 4, 4], mode="cubic", coordinate_transformation_mode="half_pixel")
    n.output(
        n.Clip(n.Add(y, back), n.constant(np.float32(0)), n.constant(np.float32(1))),
        n.SpaceToDepth(y, blocksize=2),
    )
    return n


def diffusion(opset: int = 14, dtype: str = "float32", size: int = 16) -> Net:
    """A UNet of stable diffusion: times as sines, residual blocks with group norms, a transformer with GEGLU between,
    cross attention to text, one level down and up again."""
    n = Net(opset, dtype)
    c, wide, text = 32, 48, 20
    x = n.feed("sample", (2, 4, size, size), ["b", 4, "h", "w"])
    t = n.feed("timestep", np.array([31]), [1])
    words = n.feed("encoder_hidden_states", (2, 7, text), ["b", "s", text])
    batch = n.unsqueeze(n.dim(x, 0), 0)
    times = n.cast(n.Expand(t, batch), "float32")
    speeds = np.exp(-np.log(1e4) * np.arange(16) / 16).astype(np.float32)[None]
    angle = n.Mul(n.unsqueeze(times, 1), n.constant(speeds))
    both = n.Concat(n.Cos(angle), n.Sin(angle), axis=-1)
    emb = n.cast(both, dtype) if dtype != "float32" else both
    emb = p.linear(n, p.silu(n, p.linear(n, emb, 32, wide, form="gemm")), wide, wide, form="gemm")

    def residual(y: str, cin: int, cout: int) -> str:
        z = p.conv(n, p.silu(n, p.group_norm(n, y, cin, 4)), cin, cout)
        e = p.linear(n, p.silu(n, emb), wide, cout, form="gemm")
        z = n.Add(z, n.unsqueeze(n.unsqueeze(e, 2), 3))
        z = p.conv(n, p.silu(n, p.group_norm(n, z, cout, 4)), cout, cout)
        return str(n.Add(z, y if cin == cout else p.conv(n, y, cin, cout, 1)))

    def transformer(y: str, c: int) -> str:
        b, h, w = (n.dim(y, d) for d in (0, 2, 3))
        z = p.conv(n, p.group_norm(n, y, c, 4), c, c, 1)
        z = n.reshape_by(n.Transpose(z, perm=[0, 2, 3, 1]), b, n.Mul(h, w), c)
        for source in (None, words):
            q = p.layer_norm(n, z, c)
            k = p.heads_of(n, p.linear(n, source or q, text if source else c, c, False), 4, c // 4)
            v = p.heads_of(n, p.linear(n, source or q, text if source else c, c, False), 4, c // 4)
            q = p.heads_of(n, p.linear(n, q, c, c, False), 4, c // 4)
            z = n.Add(p.linear(n, p.joined(n, p.attend(n, q, k, v, c // 4, None, "mul"), c), c, c), z)
        g = p.linear(n, p.layer_norm(n, z, c), c, 8 * c)
        if opset >= 18:
            a, gate = n.Split(g, outputs=2, axis=-1, num_outputs=2)
        else:
            a, gate = n.Slice(g, [0], [4 * c], [-1]), n.Slice(g, [4 * c], [8 * c], [-1])
        z = n.Add(p.linear(n, n.Mul(a, p.gelu(n, gate)), 4 * c, c), z)
        z = n.Transpose(n.reshape_by(z, b, h, w, c), perm=[0, 3, 1, 2])
        return str(n.Add(p.conv(n, z, c, c, 1), y))

    first = p.conv(n, x, 4, c)
    a = transformer(residual(first, c, c), c)
    y = p.conv(n, a, c, c, 3, 2)
    y = transformer(residual(y, c, wide), wide)
    y = n.resize(
        y, [1, 1, 2, 2], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    y = residual(n.Concat(p.conv(n, y, wide, wide), a, axis=1), wide + c, c)
    y = residual(n.Concat(y, first, axis=1), 2 * c, c)
    n.output(p.conv(n, p.silu(n, p.group_norm(n, y, c, 4)), c, 4))
    return n


def vae(opset: int = 17) -> Net:
    """Latents to an image: attention over pixels with one head, group norms, nearest Resize, and moments by Exp."""
    n = Net(opset)
    z = n.feed("latent", (1, 4, 8, 8))
    noise = n.feed("noise", (1, 4, 8, 8))
    mean, spread = n.split(p.conv(n, z, 4, 8, 1), [4, 4], 1)
    bounded = n.Clip(spread, n.constant(np.float32(-30)), n.constant(np.float32(20)))
    y = n.Add(mean, n.Mul(n.Exp(n.Mul(bounded, 0.5)), noise))
    y = p.conv(n, n.Div(y, 0.18215), 4, 24)
    flat = n.Transpose(n.Reshape(p.group_norm(n, y, 24, 6), [1, 24, 64]), perm=[0, 2, 1])
    q, k, v = (n.unsqueeze(p.linear(n, flat, 24, 24), 1) for _ in range(3))
    a = n.squeeze(p.attend(n, q, k, v, 24, None, "both"), 1)
    a = n.Reshape(n.Transpose(p.linear(n, a, 24, 24), perm=[0, 2, 1]), [1, 24, 8, 8])
    y = n.Div(n.Add(a, y), 1.0)
    for _ in range(2):
        y = n.resize(y, [1, 1, 2, 2], mode="nearest",
                     coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
        y = p.conv(n, p.silu(n, p.group_norm(n, y, 24, 6)), 24, 24)
    n.output(n.Tanh(p.conv(n, y, 24, 3)))
    return n


DENSE: dict[str, Callable[[], Net]] = {
    "yolo-v8": yolo,
    "yolo-v5": partial(yolo, 11, 96, "v5"),
    "yolo-11": partial(yolo, 17, 64, "v11"),
    "yolo-end": partial(yolo, 17, 64, "v8", end=True),
    "yolo-f16": partial(yolo, 17, 64, "v11", "float16"),
    "detr": detr,
    "detr-12": partial(detr, 12, 6),
    "unet": unet,
    "unet-resize": partial(unet, 18, 37, "resize"),
    "deeplab": deeplab,
    "deeplab-18": partial(deeplab, 18, 41),
    "depth": depth,
    "super-resolution": super_resolution,
    "super-resolution-18": partial(super_resolution, 18, 13),
    "diffusion": diffusion,
    "diffusion-18": partial(diffusion, 18, size=24),
    "diffusion-f16": partial(diffusion, 17, "float16"),
    "vae": vae,
}
