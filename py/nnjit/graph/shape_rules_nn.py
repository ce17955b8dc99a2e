"""Shape rules: convolutions, pooling, normalisations with statistics, resizing, recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

from .const import Shape
from .ir import Node
from .shape_rules import axis_of, fail, given, ints, put, rule


def window_shape(node: Node, spatial: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Output extents of a sliding window: pads or auto_pad, strides, dilations, ceil_mode."""
    n = len(spatial)
    if len(kernel) != n:
        fail(node, f"a kernel of {len(kernel)} axes on {n} spatial axes", n, len(kernel))
    attrs = node.attrs
    strides, dilations = attrs.get("strides") or [1] * n, attrs.get("dilations") or [1] * n
    pads, auto = attrs.get("pads") or [0] * (2 * n), attrs.get("auto_pad", "NOTSET")
    if len(pads) != 2 * n or len(strides) != n or len(dilations) != n:
        fail(node, "pads, strides or dilations do not fit its spatial axes", n, [pads, strides, dilations])
    out = []
    for i, extent in enumerate(spatial):
        reach = (kernel[i] - 1) * dilations[i] + 1
        stride = strides[i]
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            out.append(-(-extent // stride))
            continue
        begin, end = (0, 0) if auto == "VALID" else (pads[i], pads[i + n])
        room = extent + begin + end - reach
        if room < 0:
            fail(
                node,
                f"a window of {reach} does not fit spatial axis {i} of {extent + begin + end}",
                reach,
                extent,
            )
        if attrs.get("ceil_mode", 0):
            count = -(-room // stride) + 1
            # A window must start inside the input or its left padding.
            if (count - 1) * stride >= extent + begin:
                count -= 1
        else:
            count = room // stride + 1
        out.append(count)
    return out


def conv_shape(node: Node, x: Shape | None, w: Shape | None) -> Shape | None:
    """The output's shape of x [n, c, ...] under weights w [m, c / group, ...]; None while one is unknown.

    ShapeError where ranks, channels or groups contradict each other."""
    if x is None or w is None:
        return None
    group = node.attrs.get("group", 1)
    if len(x) < 3 or len(w) != len(x):
        fail(node, "input and weight must have the same rank, 3 or more", len(x), len(w))
    if x[1] != w[1] * group or w[0] % group:
        fail(node, f"the weight takes {w[1]} channels in each of {group} groups", w[1] * group, x[1])
    kernel = node.attrs.get("kernel_shape") or w[2:]
    return (x[0], w[0], *window_shape(node, x[2:], kernel))


@rule("Conv")
def conv(node: Node) -> None:
    x = given(node)
    put(node, x.dtype, conv_shape(node, x.shape, given(node, 1).shape))


@rule("ConvInteger")
def conv_integer(node: Node) -> None:
    put(node, "i32", conv_shape(node, given(node).shape, given(node, 1).shape))


@rule("QLinearConv")
def qlinear_conv(node: Node) -> None:
    put(node, given(node, 7).dtype, conv_shape(node, given(node).shape, given(node, 3).shape))


@rule("ConvTranspose")
def conv_transpose(node: Node) -> None:
    xv, wv = given(node), given(node, 1)
    x, w, attrs = xv.shape, wv.shape, node.attrs
    if x is None or w is None:
        put(node, xv.dtype, None)
        return
    if len(x) < 3 or len(w) != len(x) or x[1] != w[0]:
        fail(node, "input channels and weight do not match", w[0], list(x))
    n = len(x) - 2
    strides, dilations = attrs.get("strides") or [1] * n, attrs.get("dilations") or [1] * n
    kernel, extra = attrs.get("kernel_shape") or w[2:], attrs.get("output_padding") or [0] * n
    pads, auto = attrs.get("pads") or [0] * (2 * n), attrs.get("auto_pad", "NOTSET")
    wanted = attrs.get("output_shape")
    out = []
    for i in range(n):
        if wanted:
            out.append(wanted[i - n])
        elif auto in ("SAME_UPPER", "SAME_LOWER"):
            out.append(x[2 + i] * strides[i])
        else:
            cut = 0 if auto == "VALID" else pads[i] + pads[i + n]
            out.append(strides[i] * (x[2 + i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 - cut)
    put(node, xv.dtype, (x[0], w[1] * attrs.get("group", 1), *out))


@rule("MaxPool", "AveragePool", "LpPool")
def pool(node: Node) -> None:
    x = given(node)
    shape = (
        None
        if x.shape is None
        else (*x.shape[:2], *window_shape(node, x.shape[2:], node.attrs["kernel_shape"]))
    )
    put(node, x.dtype, shape)
    put(node, "i64", shape, 1)


@rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(node: Node) -> None:
    x = given(node)
    put(node, x.dtype, None if x.shape is None else (*x.shape[:2], *[1] * (len(x.shape) - 2)))


@rule("LayerNormalization", "RMSNormalization")
def layer_normalization(node: Node) -> None:
    x = given(node)
    put(node, x.dtype, x.shape)
    shape = None
    if x.shape is not None:
        axis = axis_of(node, node.attrs.get("axis", -1), len(x.shape))
        shape = (*x.shape[:axis], *[1] * (len(x.shape) - axis))
    for i in (1, 2):
        put(node, "f32" if node.attrs.get("stash_type", 1) == 1 else x.dtype, shape, i)


@rule("BatchNormalization")
def batch_normalization(node: Node) -> None:
    """In training mode the running mean and variance are outputs too."""
    put(node, given(node).dtype, given(node).shape)
    for i in (1, 2):
        put(node, given(node, 2 + i).dtype, given(node, 2 + i).shape, i)


@rule("Resize")
def resize(node: Node) -> None:
    x, scales, sizes = given(node), node.input(2), node.input(3)
    factors, wanted = ints(scales), ints(sizes)
    if x.shape is None or (sizes is not None and wanted is None) or (sizes is None and factors is None):
        put(node, x.dtype, None)
        return
    axes = node.attrs.get("axes") or list(range(len(x.shape)))
    axes = [axis_of(node, a, len(x.shape)) for a in axes]
    if len(axes) != len(wanted if wanted is not None else factors or []):
        fail(node, "scales or sizes must name every resized axis", len(axes), wanted or factors)
    dims = list(x.shape)
    policy = node.attrs.get("keep_aspect_ratio_policy", "stretch")
    if wanted is not None and policy != "stretch":
        ratios = [w / x.shape[a] for a, w in zip(axes, wanted, strict=True)]
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        for a in axes:
            dims[a] = floor(x.shape[a] * ratio + 0.5)
    else:
        for i, a in enumerate(axes):
            dims[a] = wanted[i] if wanted is not None else floor(x.shape[a] * (factors or [])[i])
    put(node, x.dtype, dims)


@rule("LSTM", "GRU", "RNN")
def recurrent(node: Node) -> None:
    x, w = given(node), given(node, 1)
    if x.shape is None or w.shape is None:
        for i in range(len(node.outputs)):
            put(node, x.dtype, None, i)
        return
    hidden = node.attrs.get("hidden_size") or given(node, 2).shape[-1]  # type: ignore[index]
    directions = w.shape[0]
    if node.attrs.get("layout", 0):
        batch, seq, _ = x.shape
        y, h = (batch, seq, directions, hidden), (batch, directions, hidden)
    else:
        seq, batch, _ = x.shape
        y, h = (seq, directions, batch, hidden), (directions, batch, hidden)
    put(node, x.dtype, y)
    put(node, x.dtype, h, 1)
    put(node, x.dtype, h, 2)


@rule("STFT")
def stft(node: Node) -> None:
    """[batch, frames, bins, 2]; onesided is 1 by default, which ONNX's own inference takes for 0."""
    signal, step, window, given_length = (node.input(i) for i in range(4))
    assert signal is not None
    known, steps = ints(given_length), ints(step)
    length = known[0] if known else None
    if length is None and window is not None and window.shape is not None:
        length = window.shape[0]
    if length is None or not steps or signal.shape is None:
        put(node, signal.dtype, None)
        return
    frames = 1 + (signal.shape[1] - length) // steps[0]
    bins = length // 2 + 1 if node.attrs.get("onesided", 1) else length
    put(node, signal.dtype, (signal.shape[0], frames, bins, 2))
