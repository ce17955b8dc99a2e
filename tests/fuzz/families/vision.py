"""Classifiers and backbones: ViT, CLIP, SigLIP, Swin, ConvNeXt, EfficientNet, MobileNet of TensorFlow, ShuffleNet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tests.fuzz.families import parts as p
from tests.fuzz.families.net import Net


def vit(opset: int = 14, size: int = 32, dtype: str = "float32", batch: int = 1, form: str = "div") -> Net:
    """Patches by a strided Conv, a class token by Expand of Shape, positions, pre-norm blocks, the first row."""
    n = Net(opset, dtype)
    wide, heads = 48, 3
    x = n.feed("pixel_values", (batch, 3, size, size), ["batch", 3, size, size])
    y = p.conv(n, x, 3, wide, 8, 8, pads=[0] * 4)
    shape = n.Slice(n.Shape(y), [0], [2], [0])
    y = n.Transpose(n.Reshape(y, n.Concat(shape, n.constant([-1]), axis=0)), perm=[0, 2, 1])
    one = n.Concat(n.unsqueeze(n.dim(x, 0), 0), n.constant([-1]), n.constant([-1]), axis=0)
    ones = n.ConstantOfShape(n.constant(np.array([3])), value=_tensor(np.array([1])))
    where = n.Where(n.Equal(one, n.Mul(ones, n.constant(-1))), ones, one)
    token = n.Expand(n.weight(1, 1, wide, scale=0.3), where)
    y = n.Concat(token, y, axis=1)
    y = n.Add(y, n.weight(1, (size // 8) ** 2 + 1, wide, scale=0.3))
    for _ in range(2):
        y = n.Add(p.self_attention(n, p.layer_norm(n, y, wide), wide, heads, form=form), y)
        y = n.Add(p.mlp(n, p.layer_norm(n, y, wide), wide, 4 * wide), y)
    y = p.layer_norm(n, y, wide)
    n.output(p.linear(n, n.Gather(y, 0, axis=1), wide, 10, form="gemm"), y)
    return n


def _tensor(array: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(array))


def clip(opset: int = 17, batch: int = 2, dtype: str = "float32") -> Net:
    """Both towers, embeddings divided by their norms, logits by exp(scale); the end token by ArgMax of the ids."""
    n = Net(opset, dtype)
    wide, heads, length = 32, 2, 9
    ids = n.feed("input_ids", n.numbers.integers(1, 60, (batch, length)), ["text", "length"])
    mask = n.feed(
        "attention_mask", (np.arange(length) < n.numbers.integers(3, 10, (batch, 1))).astype(np.int64)
    )
    x = n.feed("pixel_values", (batch, 3, 24, 24))
    y = n.Add(n.Gather(n.weight(61, wide, scale=1), ids), n.weight(1, length, wide, scale=0.3))
    low = n.constant(np.asarray(np.finfo(dtype).min, dtype))
    square = n.constant(np.triu(np.full((length, length), np.finfo(dtype).min, dtype), 1)[None, None])
    seen = n.cast(n.unsqueeze(mask, 1, 2), dtype)
    off = n.Sub(1.0, n.Expand(seen, n.constant([batch, 1, length, length])))
    bias = n.Add(n.Where(n.cast(off, "bool"), low, off), square) if dtype == "float32" else square
    for _ in range(2):
        y = n.Add(y, p.self_attention(n, p.layer_norm(n, y, wide), wide, heads, bias, "first", "zero"))
        y = n.Add(y, p.mlp(n, p.layer_norm(n, y, wide), wide, 4 * wide, "quick"))
    y = p.layer_norm(n, y, wide)
    last = n.ArgMax(n.cast(ids, "int32"), axis=-1, keepdims=0)
    rows = n.Range(n.constant(0), n.dim(ids, 0), n.constant(1))
    text = n.GatherND(y, n.Concat(n.unsqueeze(rows, 1), n.unsqueeze(last, 1), axis=1))
    text = p.linear(n, text, wide, 24, bias=False)
    z = p.conv(n, x, 3, wide, 8, 8, bias=False, pads=[0] * 4)
    z = n.Transpose(n.Reshape(z, [0, wide, -1]), perm=[0, 2, 1])
    z = n.Add(
        n.Concat(n.Expand(n.weight(1, 1, wide), [batch, 1, wide]), z, axis=1),
        n.weight(1, 10, wide, scale=0.3),
    )
    z = p.layer_norm(n, z, wide)
    z = n.Add(z, p.self_attention(n, p.layer_norm(n, z, wide), wide, heads, None, "first", "zero"))
    image = n.Slice(z, [0], [1], [1])
    image = p.linear(n, p.layer_norm(n, n.squeeze(image, 1), wide), wide, 24, bias=False)
    text, image = (n.Div(v, n.reduce("ReduceL2", v, [-1])) for v in (text, image))
    logits = n.Mul(
        n.MatMul(text, n.Transpose(image, perm=[1, 0])), n.Exp(n.constant(np.asarray(2.6592, dtype)))
    )
    n.output(logits, n.Transpose(logits, perm=[1, 0]), text, image)
    return n


def siglip(opset: int = 18, batch: int = 2) -> Net:
    """No class token: a learned query attends to all patches (packed weights, split by rows), sigmoid of the logits."""
    n = Net(opset)
    wide, heads = 40, 4
    x = n.feed("pixel_values", (batch, 3, 28, 21), ["b", 3, "h", "w"])
    y = p.conv(n, x, 3, wide, 7, 7, pads=[0] * 4)
    y = n.Transpose(n.Reshape(y, [0, 0, -1]), perm=[0, 2, 1])
    y = n.Add(y, n.weight(12, wide, scale=0.3))
    y = n.Add(y, p.self_attention(n, p.layer_norm(n, y, wide, 1e-6), wide, heads, None, "both", "minus"))
    y = p.layer_norm(n, n.Add(y, p.mlp(n, p.layer_norm(n, y, wide), wide, 90, "tanh")), wide)
    probe = n.Tile(
        n.weight(1, 1, wide, scale=1), n.Concat(n.unsqueeze(n.dim(y, 0), 0), n.constant([1, 1]), axis=0)
    )
    w, b = n.weight(3 * wide, wide), n.weight(3 * wide, scale=0.1)
    wq, wk, wv = n.split(w, [wide] * 3, 0)
    bq, bk, bv = n.split(b, [wide] * 3, 0)
    depth = wide // heads
    made = []
    for source, weight, bias in ((probe, wq, bq), (y, wk, bk), (y, wv, bv)):
        v = n.Transpose(source, perm=[1, 0, 2])  # torch's MultiheadAttention: [S, B, E]
        v = n.Add(n.MatMul(v, n.Transpose(weight, perm=[1, 0])), bias)
        made.append(n.Transpose(n.Reshape(v, [0, batch * heads, depth]), perm=[1, 0, 2]))
    q, k, v = made
    s = n.MatMul(n.Mul(q, float(depth**-0.5)), n.Transpose(k, perm=[0, 2, 1]))
    z = n.Transpose(n.MatMul(n.Softmax(s, axis=-1), v), perm=[1, 0, 2])
    z = n.Transpose(n.Reshape(z, [-1, batch, wide]), perm=[1, 0, 2])
    z = p.linear(n, z, wide, wide)
    n.output(n.Sigmoid(n.Gather(z, 0, axis=1)))
    return n


def swin(opset: int = 17, size: int = 16, window: int = 4, dtype: str = "float32") -> Net:
    """Windows cut by Reshape and Transpose, shifted by Slice and Concat, masks by region, neighbours merged."""
    n = Net(opset, dtype)
    wide, heads = 24, 3
    x = n.feed("x", (1, 3, 2 * size, 2 * size))
    y = p.conv(n, x, 3, wide, 2, 2, pads=[0] * 4)
    y = p.layer_norm(n, n.Transpose(n.Reshape(y, [0, wide, -1]), perm=[0, 2, 1]), wide)
    table = n.weight((2 * window - 1) ** 2, heads, scale=0.5)
    for shift in (0, window // 2):
        z = n.Reshape(p.layer_norm(n, y, wide), [-1, size, size, wide])
        if shift:
            z = rolled(n, rolled(n, z, shift, 1), shift, 2)
        z = n.Reshape(z, [-1, size // window, window, size // window, window, wide])
        z = n.Reshape(n.Transpose(z, perm=[0, 1, 3, 2, 4, 5]), [-1, window * window, wide])
        z = window_attention(n, z, wide, heads, window, table, size, shift)
        z = n.Reshape(z, [-1, size // window, size // window, window, window, wide])
        z = n.Reshape(n.Transpose(z, perm=[0, 1, 3, 2, 4, 5]), [-1, size, size, wide])
        if shift:
            z = rolled(n, rolled(n, z, -shift, 1), -shift, 2)
        y = n.Add(y, n.Reshape(z, [0, size * size, wide]))
        y = n.Add(y, p.mlp(n, p.layer_norm(n, y, wide), wide, 4 * wide))
    grid = n.Reshape(y, [0, size, size, wide])
    far = np.iinfo(np.int64).max
    quarters = [
        n.Slice(n.Slice(grid, [a], [far], [1], [2]), [b], [far], [2], [2]) for b in (0, 1) for a in (0, 1)
    ]
    y = n.Reshape(n.Concat(*quarters, axis=-1), [0, -1, 4 * wide])
    y = p.linear(n, p.layer_norm(n, y, 4 * wide), 4 * wide, 2 * wide, bias=False)
    y = n.GlobalAveragePool(n.Transpose(y, perm=[0, 2, 1]))
    n.output(p.linear(n, n.Flatten(y, axis=1), 2 * wide, 10, form="gemm"))
    return n


def rolled(n: Net, x: str, by: int, axis: int) -> str:
    """torch.roll by -by."""
    far = np.iinfo(np.int64).max
    return str(n.Concat(n.Slice(x, [by], [far], [axis]), n.Slice(x, [0], [by], [axis]), axis=axis))


def window_attention(
    n: Net, z: str, wide: int, heads: int, window: int, table: str, size: int, shift: int
) -> str:
    depth, area = wide // heads, window * window
    qkv = n.Reshape(p.linear(n, z, wide, 3 * wide), [-1, area, 3, heads, depth])
    qkv = n.Transpose(qkv, perm=[2, 0, 3, 1, 4])
    q, k, v = (n.Gather(qkv, i, axis=0) for i in range(3))
    s = n.MatMul(n.Mul(q, float(depth**-0.5)), n.Transpose(k, perm=[0, 1, 3, 2]))
    at = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij")).reshape(2, -1)
    apart = (at[:, :, None] - at[:, None] + window - 1) * np.array([2 * window - 1, 1]).reshape(2, 1, 1)
    bias = n.Reshape(n.Gather(table, n.constant(apart.sum(0).reshape(-1)), axis=0), [area, area, heads])
    s = n.Add(s, n.unsqueeze(n.Transpose(bias, perm=[2, 0, 1]), 0))
    if shift:
        region = np.zeros(size, int)
        region[size - window : size - shift], region[size - shift :] = 1, 2
        cells = (region[:, None] * 3 + region).reshape(size // window, window, size // window, window)
        cells = cells.transpose(0, 2, 1, 3).reshape(-1, area)
        mask = np.where(cells[:, None] == cells[:, :, None], 0, -100).astype(n.dtype)
        many = len(mask)
        s = n.Add(n.Reshape(s, [-1, many, heads, area, area]), n.constant(mask[None, :, None]))
        s = n.Reshape(s, [-1, heads, area, area])
    y = n.Transpose(n.MatMul(n.Softmax(s, axis=-1), v), perm=[0, 2, 1, 3])
    return p.linear(n, n.Reshape(y, [-1, area, wide]), wide, wide)


def convnext(opset: int = 17, size: int = 32, dtype: str = "float32") -> Net:
    """Depthwise 7x7, norm over channels behind a Transpose, layer scale."""
    n = Net(opset, dtype)
    x = n.feed("x", (2, 3, size, size), ["n", 3, "h", "w"])
    y = p.conv(n, x, 3, 20, 4, 4, pads=[0] * 4)
    y = n.Transpose(p.layer_norm(n, n.Transpose(y, perm=[0, 2, 3, 1]), 20, 1e-6), perm=[0, 3, 1, 2])
    for _ in range(2):
        z = n.Transpose(p.conv(n, y, 20, 20, 7, group=20), perm=[0, 2, 3, 1])
        z = p.mlp(n, p.layer_norm(n, z, 20, 1e-6), 20, 80)
        z = n.Transpose(n.Mul(n.weight(20, scale=0.5), z), perm=[0, 3, 1, 2])
        y = n.Add(y, z)
    y = n.Transpose(p.layer_norm(n, n.Transpose(y, perm=[0, 2, 3, 1]), 20), perm=[0, 3, 1, 2])
    y = p.conv(n, y, 20, 36, 2, 2, pads=[0] * 4)
    y = n.reduce("ReduceMean", y, [-2, -1], 0)
    n.output(p.linear(n, p.layer_norm(n, y, 36), 36, 10, form="gemm"))
    return n


def efficientnet(opset: int = 13, size: int = 33, dtype: str = "float32", k: int = 5) -> Net:
    """Inverted bottlenecks with squeeze and excitation, SiLU, BatchNormalization kept as a node."""
    n = Net(opset, dtype)
    x = n.feed("x", (1, 3, size, size))
    y = p.silu(n, p.batch_norm(n, p.conv(n, x, 3, 12, 3, 2, bias=False), 12))
    for cin, cout, s in ((12, 12, 1), (12, 20, 2), (20, 20, 1)):
        inner = 4 * cin
        z = p.silu(n, p.batch_norm(n, p.conv(n, y, cin, inner, 1, bias=False), inner))
        z = p.silu(n, p.batch_norm(n, p.conv(n, z, inner, inner, k, s, group=inner, bias=False), inner))
        e = n.GlobalAveragePool(z) if opset < 14 else n.reduce("ReduceMean", z, [2, 3])
        e = p.conv(n, p.silu(n, p.conv(n, e, inner, 6, 1)), 6, inner, 1)
        z = p.batch_norm(n, p.conv(n, n.Mul(n.Sigmoid(e), z), inner, cout, 1, bias=False), cout)
        y = n.Add(z, y) if cin == cout and s == 1 else z
    y = n.Flatten(n.GlobalAveragePool(p.silu(n, p.conv(n, y, 20, 64, 1))), axis=1)
    n.output(n.Softmax(p.linear(n, y, 64, 11, form="gemm"), axis=1))
    return n


def mobilenet_v3(opset: int = 12, size: int = 40) -> Net:
    """HardSwish and HardSigmoid as Add, Clip, Div, as exporters wrote them before opset 14."""
    n = Net(opset)

    def hard(x: str) -> str:
        return str(n.Div(n.Clip(n.Add(x, 3.0), n.constant(np.float32(0)), n.constant(np.float32(6))), 6.0))

    x = n.feed("input", (1, 3, size, size), [1, 3, "h", "w"])
    y = p.batch_norm(n, p.conv(n, x, 3, 16, 3, 2, bias=False), 16)
    y = n.Mul(y, hard(y))
    for cin, inner, cout, k, s in ((16, 16, 16, 3, 2), (16, 72, 24, 5, 2), (24, 88, 24, 5, 1)):
        z = n.Relu(p.batch_norm(n, p.conv(n, y, cin, inner, 1, bias=False), inner))
        z = p.batch_norm(n, p.conv(n, z, inner, inner, k, s, group=inner, bias=False), inner)
        e = p.conv(n, n.Relu(p.conv(n, n.GlobalAveragePool(z), inner, 8, 1)), 8, inner, 1)
        z = n.Relu(n.Mul(z, hard(e)))
        z = p.batch_norm(n, p.conv(n, z, inner, cout, 1, bias=False), cout)
        y = n.Add(y, z) if cin == cout and s == 1 else z
    y = n.GlobalAveragePool(p.conv(n, y, 24, 40, 1))
    y = n.Reshape(y, [-1, 40])
    y = p.linear(n, y, 40, 64, form="gemm")
    n.output(p.linear(n, n.Mul(y, hard(y)), 64, 9, form="gemm"))
    return n


def shufflenet(opset: int = 11) -> Net:
    """Channels cut in two, one half convolved, both joined and shuffled by Reshape, Transpose, Reshape."""
    n = Net(opset)
    x = n.feed("x", (1, 3, 30, 26), ["n", 3, "h", "w"])
    y = n.MaxPool(n.Relu(p.conv(n, x, 3, 24, 3, 2)), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for _ in range(2):
        a, b = n.split(y, [12, 12], 1)
        b = n.Relu(p.conv(n, b, 12, 12, 1))
        b = n.Relu(p.conv(n, p.conv(n, b, 12, 12, 3, group=12), 12, 12, 1))
        y = n.Concat(a, b, axis=1)
        dims = [n.dim(y, d) for d in range(4)]
        half = n.Div(dims[1], n.constant(2))
        y = n.Transpose(n.reshape_by(y, dims[0], 2, half, dims[2], dims[3]), perm=[0, 2, 1, 3, 4])
        y = n.reshape_by(y, dims[0], -1, dims[2], dims[3])
    n.output(n.Flatten(n.GlobalAveragePool(y), axis=1), y)
    return n


def tf_mobilenet(opset: int = 13, size: int = 33, nchw_left: bool = False) -> Net:
    """tf2onnx: NHWC in, Transpose around convolutions, SAME pads explicit and lopsided, relu6 by Clip or Min and Max,
    means over axes 1 and 2. nchw_left: transposes that the converter could not take away."""
    n = Net(opset)
    x = n.feed("input_1", (2, size, size, 3), ["unk__1", size, size, 3])
    y = n.Transpose(x, perm=[0, 3, 1, 2])
    y = n.Sub(n.Mul(y, n.constant(np.array([1 / 127.5], np.float32))), 1.0)
    y = six(n, p.conv(n, y, 3, 16, 3, 2, pads=[0, 0, 1, 1]))
    for k, s in ((3, 1), (3, 2), (5, 1)):
        z = y
        if nchw_left:
            z = n.Transpose(n.Transpose(z, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
        z = six(n, p.conv(n, z, 16, 48, 1))
        if s == 2:
            w = n.Transpose(n.Reshape(n.weight(k, k, 48, scale=0.3), [k, k, 1, 48]), perm=[3, 2, 0, 1])
            z = n.Conv(z, w, n.weight(48, scale=0.1), auto_pad="SAME_UPPER", strides=[2, 2], group=48)
        else:
            z = p.conv(n, z, 48, 48, k, 1, group=48)
        z = p.conv(n, six(n, z), 48, 16, 1)
        y = n.Add(y, z) if s == 1 else z
    y = n.Transpose(y, perm=[0, 2, 3, 1])
    y = n.Mul(n.Add(y, n.weight(16, scale=0.1)), n.weight(16, scale=0.2, middle=1.0))
    y = n.reduce("ReduceMean", y, [1, 2], 0)
    n.output(n.Softmax(n.Add(n.MatMul(y, n.weight(16, 7)), n.weight(7)), axis=-1))
    return n


def six(n: Net, x: str) -> str:
    if n.made % 2:
        return str(n.Clip(x, n.constant(np.float32(0)), n.constant(np.float32(6))))
    return str(n.Max(n.Min(x, 6.0), 0.0))


def resnet_of_keras(opset: int = 15, size: int = 40) -> Net:
    """Explicit Pad nodes in NHWC before strided convolutions, ceil-mode pools, preactivation by BatchNormalization."""
    n = Net(opset)
    x = n.feed("x", (1, size, size - 3, 3), ["n", "h", "w", 3])
    y = n.Pad(x, [0, 3, 3, 0, 0, 3, 3, 0])
    y = p.conv(n, n.Transpose(y, perm=[0, 3, 1, 2]), 3, 16, 7, 2, pads=[0] * 4)
    y = n.Transpose(n.Pad(n.Transpose(y, perm=[0, 2, 3, 1]), [0, 1, 1, 0, 0, 1, 1, 0]), perm=[0, 3, 1, 2])
    y = n.MaxPool(y, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    for cin, cout, s in ((16, 32, 1), (32, 32, 2)):
        z = n.Relu(p.batch_norm(n, y, cin))
        skip = (
            p.conv(n, z, cin, cout, 1, s)
            if cin != cout
            else n.MaxPool(y, kernel_shape=[1, 1], strides=[s, s])
        )
        z = n.Relu(p.batch_norm(n, p.conv(n, z, cin, 8, 1, bias=False), 8))
        z = p.conv(n, n.Pad(z, [0, 0, 1, 1, 0, 0, 1, 1]), 8, 8, 3, s, pads=[0] * 4, bias=False)
        y = n.Add(skip, p.conv(n, n.Relu(p.batch_norm(n, z, 8)), 8, cout, 1))
    y = n.AveragePool(y, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    n.output(n.squeeze(n.GlobalAveragePool(y), 2, 3))
    return n


def mlp_mixer(opset: int = 20) -> Net:
    """Products over tokens between two Transposes, as dynamo writes them: no shapes at run time, Gelu as a node."""
    n = Net(opset)
    x = n.feed("x", (2, 3, 24, 24), ["s0", 3, 24, 24])
    y = n.Transpose(
        n.Reshape(p.conv(n, x, 3, 32, 8, 8, pads=[0] * 4), [-1, 32, 9], allowzero=1), perm=[0, 2, 1]
    )
    for _ in range(2):
        z = n.Transpose(p.layer_norm(n, y, 32), perm=[0, 2, 1])
        z = p.mlp(n, z, 9, 20)
        y = n.Add(y, n.Transpose(z, perm=[0, 2, 1]))
        y = n.Add(y, p.mlp(n, p.layer_norm(n, y, 32), 32, 64))
    n.output(n.reduce("ReduceMean", p.layer_norm(n, y, 32), [1], 0))
    return n


VISION: dict[str, Callable[[], Net]] = {
    "vit": vit,
    "vit-17-batch": partial(vit, 17, 40, batch=3, form="both"),
    "vit-f16": partial(vit, 18, dtype="float16"),
    "clip": clip,
    "clip-12": partial(clip, 12, 3),
    "siglip": siglip,
    "swin": swin,
    "swin-11-window-7": partial(swin, 11, 14, 7),
    "swin-f16": partial(swin, 17, dtype="float16"),
    "convnext": convnext,
    "convnext-odd": partial(convnext, 13, 44),
    "convnext-f16": partial(convnext, 17, dtype="float16"),
    "efficientnet": efficientnet,
    "efficientnet-18": partial(efficientnet, 18, 48, k=3),
    "mobilenet-v3": mobilenet_v3,
    "shufflenet": shufflenet,
    "tf-mobilenet": tf_mobilenet,
    "tf-mobilenet-transposed": partial(tf_mobilenet, 11, 40, True),
    "keras-resnet": resnet_of_keras,
    "mixer-dynamo": mlp_mixer,
}
