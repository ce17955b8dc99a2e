"""What is none of the others: graph networks, state spaces, loops, recommenders, forecasting, points."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz.families import parts as p
from tests.fuzz.families.net import Net

FAR = np.iinfo(np.int64).max


def gcn(opset: int = 16, nodes: int = 12, edges: int = 30) -> Net:
    """Messages along edges: gathered by source, summed at the target by ScatterElements and ScatterND."""
    n = Net(opset)
    c = 16
    x = n.feed("x", (nodes, c), ["nodes", c])
    index = n.feed("edge_index", n.numbers.integers(0, nodes, (2, edges)), [2, "edges"])
    source, target = n.Gather(index, 0, axis=0), n.Gather(index, 1, axis=0)
    many = n.Shape(target)
    zeros = n.ConstantOfShape(n.unsqueeze(n.dim(x, 0), 0))
    degree = n.ScatterElements(zeros, target, n.ConstantOfShape(many, value=_one()), axis=0, reduction="add")
    root = n.Where(
        n.Equal(degree, n.constant(np.float32(0))),
        n.constant(np.float32(0)),
        n.Pow(n.Add(degree, 1e-9), -0.5),
    )
    norm = n.Mul(n.Gather(root, source), n.Gather(root, target))
    y = n.MatMul(x, n.weight(c, c))
    message = n.Mul(n.Gather(y, source), n.unsqueeze(norm, 1))
    total = n.ScatterND(n.ConstantOfShape(n.Shape(y)), n.unsqueeze(target, 1), message, reduction="add")
    y = n.Relu(n.Add(total, n.weight(c, scale=0.1)))
    # attention over edges: the largest score of each node taken off first
    score = n.LeakyRelu(
        n.Add(n.Gather(n.MatMul(y, n.weight(c, 1)), source), n.Gather(n.MatMul(y, n.weight(c, 1)), target))
    )
    score = n.squeeze(score, 1)
    low = n.ConstantOfShape(n.unsqueeze(n.dim(x, 0), 0), value=_one(-1e30))
    top = n.ScatterElements(low, target, score, axis=0, reduction="max")
    power = n.Exp(n.Sub(score, n.Gather(top, target)))
    sums = n.ScatterElements(zeros, target, power, axis=0, reduction="add")
    weight = n.Div(power, n.Add(n.Gather(sums, target), 1e-16))
    message = n.Mul(n.Gather(y, source), n.unsqueeze(weight, 1))
    wide = n.Expand(n.unsqueeze(target, 1), n.Shape(message))
    y = n.ScatterElements(n.ConstantOfShape(n.Shape(y)), wide, message, axis=0, reduction="add")
    n.output(n.LogSoftmax(n.MatMul(y, n.weight(c, 5)), axis=1), n.reduce("ReduceMean", y, [0]))
    return n


def _one(value: float = 1.0) -> Any:
    return numpy_helper.from_array(np.array([value], np.float32))


def mamba(opset: int = 17, length: int = 12, form: str = "unrolled") -> Net:
    """A selective state space: a causal depthwise convolution, softplus steps, exp(A dt). form: 'unrolled' (step after
    step, as tracing writes it), 'cumsum' (in logs), 'scan' (a Scan)."""
    n = Net(opset)
    c, inner, states = 16, 24, 4
    x = n.feed("x", (1, length, c))
    z = p.linear(n, p.rms_norm(n, x, c), c, 2 * inner, False)
    h, gate = n.split(z, [inner, inner], 2)
    h = n.Conv(
        n.Transpose(h, perm=[0, 2, 1]), n.weight(inner, 1, 4), n.weight(inner), pads=[3, 3], group=inner
    )
    h = p.silu(n, n.Transpose(n.Slice(h, [0], [length], [2]), perm=[0, 2, 1]))
    rest = p.linear(n, h, inner, 3 + 2 * states, False)
    dt, b, d = n.split(rest, [3, states, states], 2)
    dt = n.Softplus(p.linear(n, dt, 3, inner))
    a = n.Neg(n.Exp(n.weight(inner, states, scale=0.3)))
    decay = n.Exp(n.Mul(n.unsqueeze(dt, -1), a))
    entered = n.Mul(n.Mul(n.unsqueeze(dt, -1), n.unsqueeze(b, 2)), n.unsqueeze(h, -1))
    if form == "scan":
        state = n.ConstantOfShape(n.constant([1, inner, states]))
        turn = [helper.make_node("Mul", ["s", "k"], ["sk"]), helper.make_node("Add", ["sk", "e"], ["s2"]),
                helper.make_node("Identity", ["s2"], ["each"])]  # fmt: skip
        info = [
            helper.make_tensor_value_info(v, 1, [1, inner, states]) for v in ("s", "k", "e", "s2", "each")
        ]
        body = helper.make_graph(turn, "turn", info[:3], info[3:])
        _, kept = n.Scan(state, decay, entered, outputs=2, num_scan_inputs=2, body=body, scan_input_axes=[1, 1],
                         scan_output_axes=[1])  # fmt: skip
        y = n.squeeze(n.MatMul(kept, n.unsqueeze(d, -1)), -1)
    elif form == "cumsum":
        logs = n.CumSum(n.Log(decay), n.constant(np.int64(1)))
        kept = n.Mul(n.Exp(logs), n.CumSum(n.Mul(entered, n.Exp(n.Neg(logs))), n.constant(np.int64(1))))
        y = n.squeeze(n.MatMul(kept, n.unsqueeze(d, -1)), -1)
    else:
        state, rows = None, []
        for t in range(length):
            e = n.Gather(entered, t, axis=1)
            state = e if state is None else n.Add(n.Mul(n.Gather(decay, t, axis=1), state), e)
            rows.append(
                n.unsqueeze(n.squeeze(n.MatMul(state, n.unsqueeze(n.Gather(d, t, axis=1), -1)), -1), 1)
            )
        y = n.Concat(*rows, axis=1)
    y = n.Mul(n.Add(y, n.Mul(h, n.weight(inner))), p.silu(n, gate))
    n.output(n.Add(x, p.linear(n, y, inner, c, False)))
    return n


def counted(opset: int = 13, turns: int = 5, form: str = "trips") -> Net:
    """A Loop as scripted models have it. form: 'trips' (a count, the condition goes through), 'while' (a counter that
    the body compares, as TensorFlow writes it)."""
    n = Net(opset)
    c = 12
    x = n.feed("x", (3, c), ["b", c])
    start = n.ConstantOfShape(n.Concat(n.unsqueeze(n.dim(x, 0), 0), n.constant([c]), axis=0))
    w = numpy_helper.from_array(n.normal((c, c), 0.3), "loop_w")
    one = numpy_helper.from_array(np.array(1, np.int64), "loop_one")
    end = numpy_helper.from_array(np.array(turns, np.int64), "loop_end")

    def info(name: str, kind: int, shape: list[int | str]) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    make = helper.make_node
    nodes = [
        make("MatMul", ["h", "loop_w"], ["hw"]),
        make("Add", ["hw", x], ["hx"]),
        make("Tanh", ["hx"], ["h2"]),
    ]
    carried_in = [info("h", TensorProto.FLOAT, ["b", c])]
    carried_out = [info("h2", TensorProto.FLOAT, ["b", c])]
    if form == "while":
        nodes += [
            make("Add", ["count", "loop_one"], ["count2"]),
            make("Less", ["count2", "loop_end"], ["go"]),
        ]
        carried_in.insert(0, info("count", TensorProto.INT64, []))
        carried_out.insert(0, info("count2", TensorProto.INT64, []))
        body = helper.make_graph(
            nodes, "turn", [info("i", TensorProto.INT64, []), info("c", TensorProto.BOOL, []), *carried_in],
            [info("go", TensorProto.BOOL, []), *carried_out], [w, one, end],
        )  # fmt: skip
        _, y = n.Loop(None, n.constant(True), n.constant(0), start, outputs=2, body=body)
        n.output(y)
        return n
    nodes += [
        make("Identity", ["c"], ["go"]),
        make("Cast", ["i"], ["f"], to=1),
        make("Mul", ["h2", "f"], ["each"]),
    ]
    body = helper.make_graph(
        nodes, "turn", [info("i", TensorProto.INT64, []), info("c", TensorProto.BOOL, []), *carried_in],
        [info("go", TensorProto.BOOL, []), *carried_out, info("each", TensorProto.FLOAT, ["b", c])], [w],
    )  # fmt: skip
    y, all_ = n.Loop(n.constant(turns), n.constant(True), start, outputs=2, body=body)
    n.output(y, all_)
    return n


def recommender(opset: int = 13) -> Net:
    """DLRM: bags of embeddings by mean, products of all pairs, those below the diagonal picked by index; crosses."""
    n = Net(opset)
    dense = n.feed("dense", (4, 13), ["b", 13])
    ids = n.feed("ids", n.numbers.integers(0, 50, (4, 3, 5)), ["b", 3, 5])
    d = n.Relu(p.linear(n, dense, 13, 8, form="gemm"))
    rows = [d]
    for k in range(3):
        table = n.weight(50, 8, scale=1)
        rows.append(n.reduce("ReduceMean", n.Gather(table, n.Gather(ids, k, axis=1)), [1], 0))
    t = n.Concat(*(n.unsqueeze(r, 1) for r in rows), axis=1)
    z = n.MatMul(t, n.Transpose(t, perm=[0, 2, 1]))
    i, j = np.tril_indices(4, -1)
    flat = n.Gather(n.Reshape(z, [-1, 16]), n.constant(i * 4 + j), axis=1)
    y = n.Concat(d, flat, axis=1)
    for _ in range(2):
        y = n.Add(n.Mul(n.Concat(d, flat, axis=1), p.linear(n, y, 14, 14, form="gemm")), y)
    n.output(n.Sigmoid(p.linear(n, n.Relu(p.linear(n, y, 14, 9, form="gemm")), 9, 1, form="gemm")))
    return n


def points(opset: int = 13, many: int = 40) -> Net:
    """PointNet: shared products as 1-D convolutions, a learned turn, the k nearest by TopK of distances, maxima."""
    n = Net(opset)
    x = n.feed("points", (2, 3, many), ["b", 3, "n"])
    h = n.Relu(p.batch_norm(n, n.Conv(x, n.weight(16, 3, 1), n.weight(16)), 16))
    g = n.reduce("ReduceMax", h, [2], 0)
    turn = n.Reshape(
        n.Add(p.linear(n, g, 16, 9, form="gemm"), n.constant(np.eye(3, dtype=np.float32).reshape(1, 9))),
        [-1, 3, 3],
    )
    x = n.MatMul(n.Transpose(x, perm=[0, 2, 1]), turn)
    square = n.reduce("ReduceSum", n.Mul(x, x), [2])
    apart = n.Sub(
        n.Add(square, n.Transpose(square, perm=[0, 2, 1])),
        n.Mul(n.MatMul(x, n.Transpose(x, perm=[0, 2, 1])), 2.0),
    )
    _, at = n.TopK(apart, [5], outputs=2, axis=-1, largest=0)
    h = n.Transpose(h, perm=[0, 2, 1])
    near = n.GatherND(h, n.unsqueeze(at, -1), batch_dims=1)
    edge = n.Concat(n.Sub(near, n.unsqueeze(h, 2)), n.Expand(n.unsqueeze(h, 2), n.Shape(near)), axis=-1)
    y = n.reduce("ReduceMax", n.LeakyRelu(p.linear(n, edge, 32, 20), alpha=0.2), [2], 0)
    n.output(n.reduce("ReduceMax", y, [1], 0), n.ArgMax(y, axis=1, keepdims=0))
    return n


def forecast(opset: int = 17, length: int = 48) -> Net:
    """PatchTST and DLinear: moving means by AveragePool over repeated edges, norms and back, patches by Gather."""
    n = Net(opset)
    x = n.feed("past_values", (2, length, 3), ["b", length, 3])
    mean = n.reduce("ReduceMean", x, [1])
    var = n.reduce("ReduceMean", n.Mul(n.Sub(x, mean), n.Sub(x, mean)), [1])
    std = n.Sqrt(n.Add(var, 1e-5))
    y = n.Div(n.Sub(x, mean), std)
    front, back = n.Slice(y, [0], [1], [1]), n.Slice(y, [-1], [FAR], [1])
    padded = n.Concat(n.Tile(front, n.constant([1, 12, 1])), y, n.Tile(back, n.constant([1, 12, 1])), axis=1)
    trend = n.AveragePool(n.Transpose(padded, perm=[0, 2, 1]), kernel_shape=[25], strides=[1])
    season = n.Sub(n.Transpose(y, perm=[0, 2, 1]), trend)
    at = np.arange(0, length - 7, 4)[:, None] + np.arange(8)
    patches = n.Gather(season, n.constant(at), axis=2)
    h = n.Reshape(n.Add(p.linear(n, patches, 8, 16), n.weight(len(at), 16, scale=0.2)), [-1, len(at), 16])
    h = n.Add(h, p.self_attention(n, h, 16, 2, None, "both", "zero"))
    h = p.batch_norm(n, n.Transpose(h, perm=[0, 2, 1]), 16)
    h = n.Reshape(h, [-1, 3, 16 * len(at)])
    y = n.Add(p.linear(n, h, 16 * len(at), 12), p.linear(n, trend, length, 12))
    y = n.Transpose(y, perm=[0, 2, 1])
    n.output(n.Add(n.Mul(y, std), mean), n.Einsum(h, n.weight(5, 16 * len(at)), equation="bcd,ed->bce"))
    return n


def keras_text(opset: int = 15, length: int = 10) -> Net:
    """Keras: an LSTM over [time, batch, c] between Transposes, its last step, a GRU both ways joined, a mask."""
    n = Net(opset)
    ids = n.feed("ids", n.numbers.integers(0, 20, (2, length)).astype(np.int32), ["b", length])
    y = n.Gather(n.weight(20, 12, scale=0.5), n.cast(ids, "int64"))
    kept = n.cast(n.Not(n.Equal(ids, n.constant(np.int32(0)))), "float32")
    y = n.Mul(y, n.unsqueeze(kept, 2))
    y = n.Transpose(y, perm=[1, 0, 2])
    w = n.weight(1, 64, 12, scale=0.3), n.weight(1, 64, 16, scale=0.3), n.weight(1, 128, scale=0.1)
    y, last, _ = n.LSTM(y, *w, outputs=3, hidden_size=16)
    w = n.weight(2, 30, 16, scale=0.3), n.weight(2, 30, 10, scale=0.3), n.weight(2, 60, scale=0.1)
    y, _ = n.GRU(
        n.squeeze(y, 1), *w, outputs=2, hidden_size=10, direction="bidirectional", linear_before_reset=1
    )
    y = n.Reshape(n.Transpose(y, perm=[2, 0, 1, 3]), [0, 0, -1])
    e = n.Softmax(p.linear(n, n.Tanh(p.linear(n, y, 20, 8)), 8, 1), axis=1)
    n.output(n.reduce("ReduceSum", n.Mul(e, y), [1], 0), n.squeeze(last, 0))
    return n


def listed(opset: int = 16) -> Net:
    """Sequences, as scripted models build them: SplitToSequence, SequenceAt, SequenceInsert, ConcatFromSequence."""
    n = Net(opset)
    x = n.feed("x", (3, 12))
    parts = n.SplitToSequence(x, n.constant(np.array([4, 4, 4])), axis=1)
    a, b = n.SequenceAt(parts, n.constant(np.int64(0))), n.SequenceAt(parts, n.constant(np.int64(-1)))
    rows = n.SequenceConstruct(n.Relu(a), n.Tanh(b))
    rows = n.SequenceInsert(rows, n.Add(a, b))
    rows = n.SequenceInsert(rows, n.Mul(a, b), n.constant(np.int64(0)))
    y = n.ConcatFromSequence(rows, axis=0)
    z = n.ConcatFromSequence(rows, axis=0, new_axis=1)
    n.output(n.MatMul(y, n.weight(4, 5)), z, n.SequenceLength(rows))
    return n


def chosen(opset: int = 16) -> Net:
    """If on a fed bool, both bodies with weights of their own, and NonZero, OneHot, GatherND."""
    n = Net(opset)
    x = n.feed("x", (4, 6))
    flag = n.feed("flag", np.array(True), [])
    ids = n.feed("ids", np.array([3, 0, 2, 2]), [4])

    def branch(name: str, op: str) -> Any:
        w = numpy_helper.from_array(n.normal((6, 5), 0.5), f"{name}_w")
        nodes = [
            helper.make_node("MatMul", [x, f"{name}_w"], [f"{name}_m"]),
            helper.make_node(op, [f"{name}_m"], [f"{name}_y"]),
        ]
        return helper.make_graph(
            nodes, name, [], [helper.make_tensor_value_info(f"{name}_y", 1, [4, 5])], [w]
        )

    y = n.If(flag, then_branch=branch("yes", "Relu"), else_branch=branch("no", "Tanh"))
    hot = n.OneHot(ids, n.constant(5), n.constant(np.float32([0, 1])), axis=-1)
    n.output(n.Mul(y, hot), n.NonZero(n.Greater(x, n.constant(np.float32(0)))))
    n.output(n.GatherND(x, n.Transpose(n.NonZero(n.Equal(ids, n.constant(2))), perm=[1, 0])))
    return n


OTHERS: dict[str, Callable[[], Net]] = {
    "gcn": gcn,
    "gcn-18": partial(gcn, 18, 33, 100),
    "mamba": mamba,
    "mamba-cumsum": partial(mamba, 18, 9, "cumsum"),
    "mamba-scan": partial(mamba, 18, 9, "scan"),
    "loop": counted,
    "loop-while": partial(counted, 15, 4, "while"),
    "recommender": recommender,
    "points": points,
    "forecast": forecast,
    "keras-text": keras_text,
    "sequences": listed,
    "chosen": chosen,
}
