"""Speech and sound: Whisper, wav2vec 2, HiFi-GAN and VITS, RNN-T, Conformer, Silero's gates, a spectrogram, Demucs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from tests.fuzz.families import parts as p
from tests.fuzz.families.net import Net

FAR = np.iinfo(np.int64).max


def conv1(
    n: Net, x: str, cin: int, cout: int, k: int = 3, s: int = 1, group: int = 1, d: int = 1,
    pads: list[int] | None = None, bias: bool = True,
) -> str:  # fmt: skip
    extra = [n.weight(cout, scale=0.1)] if bias else []
    around = [d * (k // 2)] * 2 if pads is None else pads
    return str(
        n.Conv(x, n.weight(cout, cin // group, k), *extra, kernel_shape=[k], strides=[s], pads=around, group=group,
               dilations=[d])
    )  # fmt: skip


def whisper_encoder(opset: int = 14, frames: int = 60, dtype: str = "float32") -> Net:
    """Two 1-D convolutions, positions, blocks without a bias for keys."""
    n = Net(opset, dtype)
    wide = 32
    x = n.feed("input_features", (1, 20, frames), ["batch", 20, frames])
    y = p.gelu(n, conv1(n, x, 20, wide))
    y = p.gelu(n, conv1(n, y, wide, wide, s=2))
    y = n.Add(n.Transpose(y, perm=[0, 2, 1]), n.weight(frames // 2, wide, scale=0.3))
    for _ in range(2):
        z = p.layer_norm(n, y, wide)
        q = n.Mul(p.linear(n, z, wide, wide), 8**-0.5)
        k, v = p.linear(n, z, wide, wide, False), p.linear(n, z, wide, wide)
        q, k, v = (flat_heads(n, t, 4, 8) for t in (q, k, v))
        w = n.Softmax(n.MatMul(q, n.Transpose(k, perm=[0, 2, 1])), axis=-1)
        a = n.Reshape(n.MatMul(w, v), [1, 4, -1, 8])
        a = n.Reshape(n.Transpose(a, perm=[0, 2, 1, 3]), [1, -1, wide])
        y = n.Add(y, p.linear(n, a, wide, wide))
        y = n.Add(y, p.mlp(n, p.layer_norm(n, y, wide), wide, 4 * wide))
    n.output(p.layer_norm(n, y, wide))
    return n


def flat_heads(n: Net, x: str, heads: int, depth: int) -> str:
    """[B, S, H * D] -> [B * H, S, D] with the shape asked for at run time."""
    y = n.Transpose(n.reshape_by(x, n.dim(x, 0), -1, heads, depth), perm=[0, 2, 1, 3])
    return str(n.reshape_by(y, n.Mul(n.dim(x, 0), n.constant(heads)), -1, depth))


def whisper_decoder(opset: int = 14, past: int = 5, steps: int = 1, dtype: str = "float32") -> Net:
    """With past: self-attention over past and new keys (Concat), cross-attention over kept keys, tied embeddings."""
    n = Net(opset, dtype)
    wide, heads, depth, words, source = 32, 4, 8, 50, 11
    ids = n.feed("input_ids", n.numbers.integers(0, words, (1, steps)), ["batch", "steps"])
    table = n.weight(words, wide, scale=0.5)
    shape = [1, heads, "past", depth]
    begin = n.constant(past)
    if past:
        old = [
            n.feed(f"past_key_values.0.decoder.{t}", (1, heads, past, depth), shape) for t in ("key", "value")
        ]
        begin = n.dim(old[0], 2)
    end = n.Add(begin, n.dim(ids, 1))
    y = n.Gather(
        table, n.Reshape(ids, n.Concat(n.constant([-1]), n.unsqueeze(n.dim(ids, 1), 0), axis=0)), axis=0
    )
    places = n.Slice(n.weight(40, wide, scale=0.3), n.unsqueeze(begin, 0), n.unsqueeze(end, 0), [0])
    y = n.Add(y, places)
    z = p.layer_norm(n, y, wide)
    q = p.heads_of(n, n.Mul(p.linear(n, z, wide, wide), depth**-0.5), heads, depth)
    k = p.heads_of(n, p.linear(n, z, wide, wide, False), heads, depth)
    v = p.heads_of(n, p.linear(n, z, wide, wide), heads, depth)
    if past:
        k, v = n.Concat(old[0], k, axis=2), n.Concat(old[1], v, axis=2)
    bias = None
    if steps > 1:
        rows = n.Range(n.constant(0), n.dim(ids, 1), n.constant(1))
        cols = n.Range(n.constant(0), n.dim(k, 2), n.constant(1))
        seen = n.LessOrEqual(n.unsqueeze(n.Sub(cols, begin), 0), n.unsqueeze(rows, 1))
        lowest = n.constant(np.asarray(np.finfo(dtype).min, dtype))
        bias = n.unsqueeze(n.Where(seen, n.constant(np.asarray(0, dtype)), lowest), 0, 1)
    s = n.MatMul(q, n.Transpose(k, perm=[0, 1, 3, 2]))
    a = n.MatMul(n.Softmax(n.Add(s, bias) if bias else s, axis=-1), v)
    y = n.Add(y, p.linear(n, p.joined(n, a, wide), wide, wide))
    z = p.layer_norm(n, y, wide)
    cross = [n.feed(f"past_key_values.0.encoder.{t}", (1, heads, source, depth), [1, heads, "source", depth])
             for t in ("key", "value")]  # fmt: skip
    q = p.heads_of(n, n.Mul(p.linear(n, z, wide, wide), depth**-0.5), heads, depth)
    a = n.MatMul(n.Softmax(n.MatMul(q, n.Transpose(cross[0], perm=[0, 1, 3, 2])), axis=-1), cross[1])
    y = n.Add(y, p.linear(n, p.joined(n, a, wide), wide, wide))
    y = p.layer_norm(n, n.Add(y, p.mlp(n, p.layer_norm(n, y, wide), wide, 4 * wide)), wide)
    n.output(n.MatMul(y, n.Transpose(table, perm=[1, 0])), k, v)
    return n


def wav2vec(opset: int = 14, samples: int = 1600, taps: int = 32, wide: int = 32) -> Net:
    """Samples through strided convolutions, the first with a group norm over time, positions by a grouped convolution
    of many taps whose last element is cut off, CTC logits."""
    n = Net(opset)
    x = n.feed("input_values", (2, samples), ["batch", "samples"])
    y = n.unsqueeze(x, 1)
    y = conv1(n, y, 1, 24, 10, 5, pads=[0, 0], bias=False)
    shape = n.Shape(y)
    one, zero = n.hold(np.ones(24, np.float32)), n.hold(np.zeros(24, np.float32))
    y = n.Reshape(n.InstanceNormalization(n.Reshape(y, [0, 24, -1]), one, zero), shape)
    y = p.gelu(n, n.Add(n.Mul(y, n.weight(24, 1, middle=1, scale=0.2)), n.weight(24, 1, scale=0.1)))
    for k in (3, 3, 2):
        y = p.gelu(n, conv1(n, y, 24, 24, k, 2, pads=[0, 0], bias=False))
    y = p.linear(n, p.layer_norm(n, n.Transpose(y, perm=[0, 2, 1]), 24), 24, wide)
    z = n.Transpose(y, perm=[0, 2, 1])
    # weight norm, as it is exported: g * v / |v|
    v = n.weight(wide, wide // 4, taps)
    w = n.Mul(n.Div(v, n.reduce("ReduceL2", v, [0, 1])), n.weight(1, 1, taps, scale=0.2, middle=1))
    z = n.Conv(z, w, n.weight(wide, scale=0.1), kernel_shape=[taps], pads=[taps // 2] * 2, group=4)
    z = n.Slice(z, [0], [-1], [2])
    y = p.layer_norm(n, n.Add(y, n.Transpose(p.gelu(n, z), perm=[0, 2, 1])), wide)
    y = p.layer_norm(n, n.Add(y, p.self_attention(n, y, wide, 4, None, "first")), wide)
    y = p.layer_norm(n, n.Add(y, p.mlp(n, y, wide, 64)), wide)
    n.output(n.LogSoftmax(p.linear(n, y, wide, 13), axis=-1))
    return n


def hifigan(opset: int = 13, frames: int = 17) -> Net:
    """ConvTranspose upwards, residual blocks of dilated convolutions, LeakyRelu, their mean."""
    n = Net(opset)
    x = n.feed("mel", (1, 20, frames), [1, 20, "frames"])
    y = conv1(n, x, 20, 32, 7)
    c = 32
    for k, s in ((16, 8), (4, 2)):
        y = n.LeakyRelu(y, alpha=0.1)
        w = n.weight(c, c // 2, k, scale=(c * k / s) ** -0.5)
        pad = (k - s) // 2
        y = n.ConvTranspose(y, w, n.weight(c // 2, scale=0.1), kernel_shape=[k], strides=[s], pads=[pad] * 2)
        c //= 2
        sums = []
        for taps in (3, 7):
            z = y
            for d in (1, 3):
                r = conv1(n, n.LeakyRelu(z, alpha=0.1), c, c, taps, d=d)
                z = n.Add(conv1(n, n.LeakyRelu(r, alpha=0.1), c, c, taps), z)
            sums.append(z)
        y = n.Div(n.Add(*sums), float(len(sums)))
    n.output(n.Tanh(conv1(n, n.LeakyRelu(y, alpha=0.01), c, 1, 7)))
    return n


def vits(opset: int = 15, tokens: int = 9) -> Net:
    """Durations to a path: Ceil, CumSum, sequence masks by Range and Less, frames by a product, relative positions by
    Pad and Reshape, WaveNet gates by Split, a flow by Split, Slice with a negative step, and Concat."""
    n = Net(opset)
    c = 24
    ids = n.feed("input", n.numbers.integers(0, 30, (1, tokens)), [1, "tokens"])
    frames = n.feed("frames", np.array(40, np.int64), [])
    y = n.Mul(n.Gather(n.weight(30, c, scale=0.3), ids), float(c**0.5))
    y = n.Transpose(y, perm=[0, 2, 1])
    z = n.Transpose(y, perm=[0, 2, 1])
    q, k, v = (p.heads_of(n, p.linear(n, z, c, c), 2, c // 2, "zero") for _ in range(3))
    s = n.MatMul(n.Mul(q, (c / 2) ** -0.5), n.Transpose(k, perm=[0, 1, 3, 2]))
    # relative keys: [1, 2, T, 2 T - 1] shifted row by row into [1, 2, T, T]
    rel = n.MatMul(q, n.Transpose(n.weight(1, 2 * tokens - 1, c // 2, scale=0.2), perm=[0, 2, 1]))
    rel = n.Pad(rel, n.constant([0, 0, 0, 0, 0, 0, 0, 1]))
    rel = n.Reshape(rel, [1, 2, tokens * 2 * tokens])
    rel = n.Reshape(n.Pad(rel, n.constant([0, 0, 0, 0, 0, tokens - 1])), [1, 2, tokens + 1, 2 * tokens - 1])
    rel = n.Slice(rel, [0, tokens - 1], [tokens, FAR], [2, 3])
    a = p.joined(n, n.MatMul(n.Softmax(n.Add(s, rel), axis=-1), v), c, "zero")
    y = n.Add(y, n.Transpose(p.linear(n, a, c, c), perm=[0, 2, 1]))
    y = n.Transpose(p.layer_norm(n, n.Transpose(y, perm=[0, 2, 1]), c), perm=[0, 2, 1])
    length = n.Ceil(n.Mul(n.Exp(n.Mul(n.Tanh(conv1(n, y, c, 1, 1)), 1.2)), 1.3))
    ends = n.CumSum(n.squeeze(length, 1), n.constant(np.int64(1)))
    steps = n.cast(n.Range(n.constant(0), frames, n.constant(1)), "float32")
    until = n.cast(n.Less(n.Reshape(steps, [1, 1, -1]), n.unsqueeze(ends, 2)), "float32")
    path = n.Sub(until, n.Pad(n.Slice(until, [0], [-1], [1]), n.constant([0, 1, 0, 0, 0, 0])))
    y = n.MatMul(y, path)
    a, b = n.split(y, [c // 2, c // 2], 1)
    h = conv1(n, a, c // 2, c, 1)
    for d in (1, 2):
        g = conv1(n, h, c, 2 * c, 3, d=d)
        t, r = n.Slice(g, [0], [c], [1]), n.Slice(g, [c], [FAR], [1])
        h = n.Add(h, conv1(n, n.Mul(n.Tanh(t), n.Sigmoid(r)), c, c, 1))
    b = n.Sub(b, conv1(n, h, c, c // 2, 1))
    y = n.Slice(n.Concat(a, b, axis=1), [-1], [-FAR], [1], [-1])
    n.output(conv1(n, y, c, 4, 5), ends)
    return n


def conformer(opset: int = 17, frames: int = 48) -> Net:
    """Subsampling by 2-D convolutions, half steps, relative shift by Concat and Reshape, GLU, a depthwise convolution,
    lengths of the batch as masks."""
    n = Net(opset)
    c, heads = 32, 4
    x = n.feed("audio_signal", (2, frames, 20), ["batch", "time", 20])
    lengths = n.feed("length", np.array([frames, frames - 13]), ["batch"])
    y = n.Relu(p.conv(n, n.unsqueeze(x, 1), 1, 8, 3, 2))
    y = n.Relu(p.conv(n, y, 8, 8, 3, 2))
    y = n.Transpose(y, perm=[0, 2, 1, 3])
    y = p.linear(n, n.reshape_by(y, n.dim(y, 0), n.dim(y, 1), 40), 40, c)
    time = n.dim(y, 1)
    short = n.Div(n.Add(n.Div(n.Add(lengths, n.constant(1)), n.constant(2)), n.constant(1)), n.constant(2))
    valid = n.Less(n.unsqueeze(n.Range(n.constant(0), time, n.constant(1)), 0), n.unsqueeze(short, 1))
    y = n.Add(y, n.Mul(p.linear(n, p.silu(n, p.linear(n, p.layer_norm(n, y, c), c, 64)), 64, c), 0.5))
    z = p.layer_norm(n, y, c)
    q = n.reshape_by(p.linear(n, z, c, c), n.dim(z, 0), -1, heads, 8)
    k, v = (p.heads_of(n, p.linear(n, z, c, c), heads, 8) for _ in range(2))
    side = frames // 4
    pos = p.heads_of(n, p.linear(n, n.weight(1, 2 * side - 1, c, scale=0.5), c, c, False), heads, 8, "zero")
    qu = n.Transpose(n.Add(q, n.weight(heads, 8)), perm=[0, 2, 1, 3])
    qv = n.Transpose(n.Add(q, n.weight(heads, 8)), perm=[0, 2, 1, 3])
    far = n.MatMul(qv, n.Transpose(pos, perm=[0, 1, 3, 2]))
    b, h, t = (n.dim(far, d) for d in (0, 1, 2))
    none = n.ConstantOfShape(n.Concat(*(n.unsqueeze(d, 0) for d in (b, h, t)), n.constant([1]), axis=0))
    far = n.reshape_by(n.Concat(none, far, axis=-1), b, h, -1, t)
    far = n.Reshape(n.Slice(far, [1], [FAR], [2]), n.Shape(n.MatMul(qv, n.Transpose(pos, perm=[0, 1, 3, 2]))))
    far = n.Slice(far, [0], n.unsqueeze(time, 0), [3])
    s = n.Mul(n.Add(n.MatMul(qu, n.Transpose(k, perm=[0, 1, 3, 2])), far), 8**-0.5)
    gone = n.unsqueeze(n.Not(valid), 1, 2)
    w = n.Softmax(n.Where(gone, n.constant(np.float32(-10000)), s), axis=-1)
    w = n.Where(gone, n.constant(np.float32(0)), w)
    y = n.Add(y, p.linear(n, p.joined(n, n.MatMul(w, v), c), c, c))
    z = n.Transpose(p.layer_norm(n, y, c), perm=[0, 2, 1])
    a, g = n.split(conv1(n, z, c, 2 * c, 1), [c, c], 1)
    z = n.Where(n.unsqueeze(n.Not(valid), 1), n.constant(np.float32(0)), n.Mul(a, n.Sigmoid(g)))
    z = p.silu(n, p.batch_norm(n, conv1(n, z, c, c, 9, group=c), c))
    y = n.Add(y, n.Transpose(conv1(n, z, c, c, 1), perm=[0, 2, 1]))
    n.output(n.LogSoftmax(p.linear(n, p.layer_norm(n, y, c), c, 17), axis=-1), short)
    return n


def transducer(opset: int = 13) -> Net:
    """RNN-T: a prediction network of LSTM with states in and out, joined with each frame by broadcasting."""
    n = Net(opset)
    c, words, frames, batch = 24, 19, 7, 2
    encoded = n.feed("encoder_outputs", (batch, c, frames), ["b", c, "t"])
    ids = n.feed("targets", n.numbers.integers(0, words, (batch, 4)).astype(np.int32), ["b", "u"])
    states = [n.feed(f"state_{k}", (1, batch, c), [1, "b", c]) for k in (1, 2)]
    y = n.Transpose(n.Gather(n.weight(words, c, scale=1), ids), perm=[1, 0, 2])
    w = n.weight(1, 4 * c, c, scale=0.2), n.weight(1, 4 * c, c, scale=0.2), n.weight(1, 8 * c, scale=0.1)
    y, h, s = n.LSTM(y, *w, None, *states, outputs=3, hidden_size=c)
    y = p.linear(n, n.Transpose(n.squeeze(y, 1), perm=[1, 0, 2]), c, 32)
    f = p.linear(n, n.Transpose(encoded, perm=[0, 2, 1]), c, 32)
    z = n.Relu(n.Add(n.unsqueeze(f, 2), n.unsqueeze(y, 1)))
    z = n.LogSoftmax(p.linear(n, z, 32, words + 1), axis=-1)
    best, place = n.TopK(z, [3], outputs=2, axis=-1)
    n.output(z, h, s, best, place)
    return n


def crnn(opset: int = 11, width: int = 64) -> Net:
    """OCR: a column of features a step, two bidirectional LSTMs, Softmax; keras and torch reshape states alike."""
    n = Net(opset)
    x = n.feed("x", (1, 1, 32, width), ["b", 1, 32, "w"])
    y = n.MaxPool(n.Relu(p.conv(n, x, 1, 16)), kernel_shape=[2, 2], strides=[2, 2])
    y = n.MaxPool(n.Relu(p.conv(n, y, 16, 24)), kernel_shape=[2, 1], strides=[2, 1], pads=[0, 0, 0, 0])
    y = n.Relu(p.batch_norm(n, n.Conv(y, n.weight(24, 24, 8, 2), kernel_shape=[8, 2], pads=[0, 0, 0, 1]), 24))
    y = n.Transpose(n.squeeze(y, 2), perm=[2, 0, 1])
    for wide in (24, 40):
        c = 20
        many = n.dim(y, 1)
        none = n.ConstantOfShape(n.Concat(n.constant([2]), n.unsqueeze(many, 0), n.constant([c]), axis=0))
        w = (
            n.weight(2, 4 * c, wide, scale=0.2),
            n.weight(2, 4 * c, c, scale=0.2),
            n.weight(2, 8 * c, scale=0.1),
        )
        z = n.LSTM(y, *w, None, none, none, outputs=3, hidden_size=c, direction="bidirectional")[0]
        y = n.Reshape(n.Transpose(z, perm=[0, 2, 1, 3]), [0, 0, -1])
    n.output(n.Softmax(n.Transpose(p.linear(n, y, 40, 11), perm=[1, 0, 2]), axis=2))
    return n


def gated(opset: int = 16) -> Net:
    """Voice activity: a spectrogram by a convolution with sines, magnitudes, GRU, a recurrence written as a Scan."""
    n = Net(opset)
    x = n.feed("input", (1, 512), ["b", 512])
    state = n.feed("state", (1, 1, 16), [1, "b", 16])
    y = n.Pad(n.unsqueeze(x, 1), n.constant([0, 0, 64, 0, 0, 64]), mode="reflect")
    k = np.arange(128)
    waves = np.stack([f(2 * np.pi * np.outer(np.arange(65), k) / 128) for f in (np.cos, np.sin)]).reshape(
        130, 1, 128
    )
    y = n.Conv(y, n.hold((waves * np.hanning(128)).astype(np.float32)), kernel_shape=[128], strides=[64])
    re, im = n.Slice(y, [0], [65], [1]), n.Slice(y, [65], [130], [1])
    y = n.Log(n.Add(n.Sqrt(n.Add(n.Pow(re, 2.0), n.Pow(im, 2.0))), 1e-3))
    y = n.Sub(y, n.reduce("ReduceMean", y, [2]))
    y = n.Relu(conv1(n, y, 65, 16))
    y = n.Transpose(y, perm=[2, 0, 1])
    w = n.weight(1, 48, 16, scale=0.3), n.weight(1, 48, 16, scale=0.3), n.weight(1, 96, scale=0.1)
    y, last = n.GRU(y, *w, None, state, outputs=2, hidden_size=16, linear_before_reset=1)
    y = n.squeeze(y, 1)
    total, each = n.Scan(n.squeeze(last, 0), y, outputs=2, num_scan_inputs=1, body=_turn(n))
    n.output(n.Sigmoid(p.linear(n, total, 16, 1, form="gemm")), each, last)
    return n


def _turn(n: Net) -> Any:
    """h' = tanh(h W + x), and its mean."""
    w = numpy_helper.from_array(n.normal((16, 16), 0.3), "turn_w")
    nodes = [
        helper.make_node("MatMul", ["h", "turn_w"], ["hw"]), helper.make_node("Add", ["hw", "x"], ["hx"]),
        helper.make_node("Tanh", ["hx"], ["h_out"]), helper.make_node("Identity", ["h_out"], ["each"]),
    ]  # fmt: skip

    def info(name: str) -> Any:
        return helper.make_tensor_value_info(name, 1, [1, 16])

    return helper.make_graph(nodes, "turn", [info("h"), info("x")], [info("h_out"), info("each")], [w])


def demucs(opset: int = 17) -> Net:
    """Sound apart: GLU over 1-D convolutions, an LSTM in the middle, ConvTranspose back, skips cut to the shorter."""
    n = Net(opset)
    x = n.feed("mix", (1, 2, 300), [1, 2, "samples"])
    mean, y = n.reduce("ReduceMean", x, [1, 2]), x
    y = n.Div(n.Sub(y, mean), n.Add(n.Sqrt(n.reduce("ReduceMean", n.Pow(n.Sub(y, mean), 2.0), [1, 2])), 1e-5))
    skips, c = [], 2
    for out in (12, 16):
        y = n.Relu(conv1(n, y, c, out, 8, 4, pads=[2, 2]))
        a, b = n.split(conv1(n, y, out, 2 * out, 1), [out, out], 1)
        y, c = n.Mul(a, n.Sigmoid(b)), out
        skips.append(y)
    z = n.Transpose(y, perm=[2, 0, 1])
    w = n.weight(2, 64, 16, scale=0.3), n.weight(2, 64, 16, scale=0.3), n.weight(2, 128, scale=0.1)
    z = n.LSTM(z, *w, outputs=3, hidden_size=16, direction="bidirectional")[0]
    z = n.Reshape(n.Transpose(z, perm=[0, 2, 1, 3]), [0, 0, 32])
    y = n.Add(n.Transpose(p.linear(n, z, 32, 16), perm=[1, 2, 0]), y)
    for c, out in ((16, 12), (12, 4)):
        y = n.Add(y, n.Slice(skips.pop(), [0], n.unsqueeze(n.dim(y, 2), 0), [2]))
        a, b = n.split(conv1(n, y, c, 2 * c, 3), [c, c], 1)
        y = n.ConvTranspose(n.Mul(a, n.Sigmoid(b)), n.weight(c, out, 8, scale=0.2), n.weight(out), kernel_shape=[8],
                            strides=[4], pads=[2, 2])  # fmt: skip
    n.output(n.reshape_by(y, 1, 2, 2, -1))
    return n


AUDIO: dict[str, Callable[[], Net]] = {
    "whisper-encoder": whisper_encoder,
    "whisper-encoder-f16": partial(whisper_encoder, 17, 40, "float16"),
    "whisper-decoder": whisper_decoder,
    "whisper-decoder-prompt": partial(whisper_decoder, 17, 0, 6),
    "whisper-decoder-more": partial(whisper_decoder, 18, 4, 3),
    "wav2vec": wav2vec,
    "wav2vec-128-taps": partial(wav2vec, 17, 3211, 128, 64),
    "hifigan": hifigan,
    "vits": vits,
    "conformer": conformer,
    "transducer": transducer,
    "crnn": crnn,
    "crnn-15": partial(crnn, 15, 90),
    "gated": gated,
    "demucs": demucs,
}
