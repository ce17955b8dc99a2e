"""What memory bounds: moving, joining, reducing, pooling, normalising, searching; one operator a row.

`memory_ops` gives them as they are inside a model: the input is computed, the output reduced to one number, so that no
time goes into carrying tensors in and out of a library. Sizes are those at which the data leaves the second cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.bench.operators.op import Op, build, inside, normal, typed_op

Row = tuple[str, onnx.NodeProto, np.ndarray, dict[str, np.ndarray]]
of = helper.make_node


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def memory_ops() -> list[Op]:
    """All rows, of the kind "memory" but for the recurrent ones; flops count each input element once."""
    rng = np.random.default_rng(5)
    rows = [*windows(rng), *reductions(rng), *moves(rng), *norms(rng), *functions(rng)]
    made = [
        inside_as(name, node, image, weights)
        if node.op_type == "Transpose"
        else inside(name, node, image, weights, float(image.size))
        for name, node, image, weights in rows
    ]
    made += typed(rng) + halves(rng) + [written_out(rng)]
    return [replace(op, kind="memory") for op in made] + recurrent(rng)


def windows(rng: np.random.Generator) -> list[Row]:
    deep, wide = normal(rng, 1, 64, 112, 112), normal(rng, 1, 1280, 7, 7)
    two = {"scales": np.array([1, 1, 2, 2], np.float32)}
    linear = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return [
        ("pool max 3x3 s2 64x112x112",
         of("MaxPool", ["a"], ["b"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), deep, {}),
        ("pool max 2x2 s2 64x112x112", of("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]), deep, {}),
        ("pool average 2x2 s2 64x112x112",
         of("AveragePool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]), deep, {}),
        ("pool average 3x3 s1 64x112x112",
         of("AveragePool", ["a"], ["b"], kernel_shape=[3, 3], pads=[1] * 4), deep, {}),
        ("pool global 1280x7x7", of("GlobalAveragePool", ["a"], ["b"]), wide, {}),
        ("pool global 64x112x112", of("GlobalAveragePool", ["a"], ["b"]), deep, {}),
        ("resize nearest x2 64x112x112", of("Resize", ["a", "", "scales"], ["b"], mode="nearest"), deep, two),
        ("resize linear x2 64x112x112", of("Resize", ["a", "", "scales"], ["b"], **linear), deep, two),
        ("pad reflect 64x112x112", of("Pad", ["a", "pads"], ["b"], mode="reflect"), deep,
         {"pads": integers(0, 0, 3, 3, 0, 0, 3, 3)}),
        ("depth to space 64x112x112", of("DepthToSpace", ["a"], ["b"], blocksize=2), deep, {}),
    ]  # fmt: skip


def reductions(rng: np.random.Generator) -> list[Row]:
    rows = normal(rng, 64, 384, 96)
    found: list[Row] = []
    for name, op, axes in (
        ("mean last", "ReduceMean", [2]),
        ("sum middle", "ReduceSum", [1]),
        ("sum first", "ReduceSum", [0]),
        ("max last", "ReduceMax", [2]),
        ("max middle", "ReduceMax", [1]),
        ("sum ends", "ReduceSum", [0, 2]),
        ("l2 inner two", "ReduceL2", [1, 2]),
    ):
        found.append(
            (f"reduce {name} 64x384x96", of(op, ["a", "axes"], ["b"]), rows, {"axes": integers(*axes)})
        )
    axis = {"axis": np.array(2, np.int64)}
    return [
        *found,
        ("softmax 64x384x96 last", of("Softmax", ["a"], ["b"], axis=2), rows, {}),
        ("softmax 64x384x96 middle", of("Softmax", ["a"], ["b"], axis=1), rows, {}),
        ("logsoftmax 64x384x96 last", of("LogSoftmax", ["a"], ["b"], axis=2), rows, {}),
        ("cumsum 64x384x96 last", of("CumSum", ["a", "axis"], ["b"]), rows, axis),
        ("cumsum 64x384x96 middle", of("CumSum", ["a", "axis"], ["b"]), rows, {"axis": np.array(1, np.int64)}),
    ]  # fmt: skip


def moves(rng: np.random.Generator) -> list[Row]:
    rows, heads, square = normal(rng, 64, 384, 96), normal(rng, 1, 384, 12, 64), normal(rng, 1024, 1024)
    image, last = normal(rng, 1, 64, 112, 112), normal(rng, 1, 112, 112, 64)
    some = {"indices": rng.integers(0, 384, 500)}
    each = {"indices": rng.integers(0, 96, (64, 384, 96))}
    mask = {"mask": rng.random((64, 384, 96)) < 0.5, "other": np.array(-1.0, np.float32)}
    cut = {
        "starts": integers(0, 1),
        "ends": integers(384, 96),
        "axes": integers(1, 2),
        "steps": integers(2, 3),
    }
    return [
        ("transpose 64x384x96 021", of("Transpose", ["a"], ["b"], perm=[0, 2, 1]), rows, {}),
        ("transpose 384x12x64 0213", of("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3]), heads, {}),
        ("transpose 1024x1024", of("Transpose", ["a"], ["b"], perm=[1, 0]), square, {}),
        ("transpose 64x112x112 0231", of("Transpose", ["a"], ["b"], perm=[0, 2, 3, 1]), image, {}),
        ("transpose 112x112x64 0312", of("Transpose", ["a"], ["b"], perm=[0, 3, 1, 2]), last, {}),
        ("concat 64x384x96 middle", of("Concat", ["a", "image"], ["b"], axis=1), rows, {}),
        ("concat 64x384x96 last", of("Concat", ["a", "image"], ["b"], axis=2), rows, {}),
        ("slice 64x384x96 steps", of("Slice", ["a", "starts", "ends", "axes", "steps"], ["b"]), rows, cut),
        ("gather 64x384x96 middle", of("Gather", ["a", "indices"], ["b"], axis=1), rows, some),
        ("gather 64x384x96 last", of("Gather", ["a", "indices"], ["b"], axis=2), rows,
         {"indices": rng.integers(0, 96, 96)}),
        ("gather elements 64x384x96", of("GatherElements", ["a", "indices"], ["b"], axis=2), rows, each),
        ("where 64x384x96", of("Where", ["mask", "a", "other"], ["b"]), rows, mask),
        ("add 64x384x96 row", of("Add", ["a", "row"], ["b"]), rows, {"row": normal(rng, 96)}),
        ("add 64x384x96 column", of("Add", ["a", "column"], ["b"]), rows, {"column": normal(rng, 64, 384, 1)}),
        ("hard swish 64x112x112", of("HardSwish", ["a"], ["b"]), image, {}),
        ("expand 384x96", of("Expand", ["a", "shape"], ["b"]), normal(rng, 1, 384, 96),
         {"shape": integers(64, 384, 96)}),
        ("tile 64x384x96", of("Tile", ["a", "repeats"], ["b"]), rows, {"repeats": integers(1, 2, 2)}),
    ]  # fmt: skip


def norms(rng: np.random.Generator) -> list[Row]:
    deep, rows = normal(rng, 1, 64, 112, 112), normal(rng, 4, 384, 768)
    norm = {"scale": normal(rng, 64), "bias": normal(rng, 64)}
    wide = {"scale": normal(rng, 768), "bias": normal(rng, 768)}
    return [
        ("instance norm 64x112x112", of("InstanceNormalization", ["a", "scale", "bias"], ["b"]), deep, norm),
        ("layer norm 1536x768", of("LayerNormalization", ["a", "scale", "bias"], ["b"]), rows, wide),
        ("lp norm 1536x768", of("LpNormalization", ["a"], ["b"], axis=2), rows, {}),
        ("layer norm 77x1001", of("LayerNormalization", ["a", "scale", "bias"], ["b"]), normal(rng, 77, 1001),
         {"scale": normal(rng, 1001), "bias": normal(rng, 1001)}),
        ("instance norm 16x320x320", of("InstanceNormalization", ["a", "scale", "bias"], ["b"]),
         normal(rng, 1, 16, 320, 320), {"scale": normal(rng, 16), "bias": normal(rng, 16)}),
        ("instance norm 256x14x14", of("InstanceNormalization", ["a", "scale", "bias"], ["b"]),
         normal(rng, 1, 256, 14, 14), {"scale": normal(rng, 256), "bias": normal(rng, 256)}),
        ("group norm 64x112x112 in 8", of("GroupNormalization", ["a", "scale", "bias"], ["b"], num_groups=8), deep,
         {"scale": normal(rng, 8), "bias": normal(rng, 8)}),
        ("batch norm 64x112x112", of("BatchNormalization", ["a", "scale", "bias", "mean", "variance"], ["b"]), deep,
         {**norm, "mean": normal(rng, 64), "variance": np.abs(normal(rng, 64)) + 1}),
    ]  # fmt: skip


def functions(rng: np.random.Generator) -> list[Row]:
    """Functions that are polynomials in both libraries, three million numbers each; exp of what is not too large."""
    rows = normal(rng, 64, 384, 96)
    positive, power = np.abs(rows) + np.float32(0.1), {"power": np.array(1.7, np.float32)}
    return [
        *((f"{op.lower()} 64x384x96", of(op, ["a"], ["b"]), rows, {}) for op in ("Exp", "Erf", "Tanh", "Sigmoid")),
        *((f"{op.lower()} 64x384x96", of(op, ["a"], ["b"]), rows, {}) for op in ("Sin", "Cos", "Gelu")),
        ("gelu tanh 64x384x96", of("Gelu", ["a"], ["b"], approximate="tanh"), rows, {}),
        ("log 64x384x96", of("Log", ["a"], ["b"]), positive, {}),
        ("pow 64x384x96", of("Pow", ["a", "power"], ["b"]), positive, power),
        ("softplus 64x384x96", of("Softplus", ["a"], ["b"]), rows, {}),
    ]  # fmt: skip


def halves(rng: np.random.Generator) -> list[Op]:
    """Operators on numbers stored in 16 bits, computed with in 32. They are fed: onnxruntime keeps what it computes in
    32 bits between operators, whatever the model's type."""
    rows = normal(rng, 4, 384, 768).astype(np.float16)
    wide = {"scale": normal(rng, 768).astype(np.float16), "bias": normal(rng, 768).astype(np.float16)}
    nodes = {
        "add 1536x768 f16": (of("Add", ["x", "bias"], ["b"]), {"bias": wide["bias"]}),
        "softmax 1536x768 f16": (of("Softmax", ["x"], ["b"], axis=2), {}),
        "layer norm 1536x768 f16": (of("LayerNormalization", ["x", "scale", "bias"], ["b"]), wide),
    }
    last = [of("Cast", ["b"], ["c"], to=TensorProto.FLOAT), of("ReduceMax", ["c"], ["y"], keepdims=0)]
    return [
        typed_op(name, [node, *last], rows, weights, np.float32, float(rows.size))
        for name, (node, weights) in nodes.items()
    ]


def written_out(rng: np.random.Generator) -> Op:
    """RMS norm as language models have it when exported: square, mean, root, quotient, scale."""
    image, scale = normal(rng, 4, 384, 768), normal(rng, 768)
    nodes = [
        of("Mul", ["image", "x"], ["a"]),
        of("Mul", ["a", "a"], ["square"]),
        of("ReduceMean", ["square", "axes"], ["mean"]),
        of("Add", ["mean", "epsilon"], ["shifted"]),
        of("Sqrt", ["shifted"], ["root"]),
        of("Div", ["a", "root"], ["normal"]),
        of("Mul", ["normal", "scale"], ["b"]),
        of("ReduceMax", ["b"], ["y"], keepdims=0),
    ]
    weights = {"image": image, "scale": scale, "axes": integers(-1), "epsilon": np.array(1e-6, np.float32)}
    one = np.ones((1,), np.float32)
    return Op("rms norm 1536x768", "layer", build(nodes, one, weights), {"x": one}, {}, float(image.size))


def inside_as(
    name: str,
    node: onnx.NodeProto,
    image: np.ndarray,
    weights: dict[str, np.ndarray],
    before: int = TensorProto.FLOAT,
    after: bool = False,
) -> Op:
    """As `inside`, for a node whose input has another type than f32 (`before`: ONNX's number) or whose output has. A
    Transpose is followed by the addition of something computed: right in front of a maximum of everything it would be
    left out."""
    nodes = [
        of("Mul", ["image", "x"], ["m"]),
        of("Cast", ["m"], ["a"], to=before),
        node,
        *([of("Cast", ["b"], ["c"], to=TensorProto.FLOAT)] if after else []),
    ]
    last, given = "c" if after else "b", {**weights, "image": image}
    if node.op_type == "Transpose":
        perm = next(list(a.ints) for a in node.attribute if a.name == "perm")
        given["other"] = np.ascontiguousarray(image.transpose(perm)) - 1
        nodes += [of("Mul", ["other", "x"], ["o"]), of("Add", [last, "o"], ["d"])]
        last = "d"
    nodes.append(of("ReduceMax", [last], ["y"], keepdims=0))
    one = np.ones((1,), np.float32)
    return Op(name, "layer", build(nodes, one, given), {"x": one}, {}, float(image.size))


def typed(rng: np.random.Generator) -> list[Op]:
    """Rows whose input or output is not f32."""
    rows, bytes_ = normal(rng, 64, 384, 96), np.abs(normal(rng, 64, 384, 96, scale=40.0))
    f32, u8 = TensorProto.FLOAT, TensorProto.UINT8
    k = {"k": integers(5)}
    return [
        inside_as("argmax 64x384x96 last", of("ArgMax", ["a"], ["b"], axis=2), rows, {}, f32, True),
        inside_as("argmax 64x384x96 middle", of("ArgMax", ["a"], ["b"], axis=1), rows, {}, f32, True),
        inside_as("top-k 5 of 64x384x96", of("TopK", ["a", "k"], ["b", "place"], axis=2), rows, k, f32, False),
        inside_as("top-k 50 of 1x50257", of("TopK", ["a", "k"], ["b", "place"], axis=1), normal(rng, 1, 50257),
                  {"k": integers(50)}, f32, False),
        inside_as("transpose 64x384x96 021 u8", of("Transpose", ["a"], ["b"], perm=[0, 2, 1]), bytes_, {}, u8, True),
    ]  # fmt: skip


def recurrent(rng: np.random.Generator, time: int = 100) -> list[Op]:
    """Layers of 256 units over 100 steps, one and eight sequences."""
    made = []
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for batch in (1, 8) if op == "LSTM" else (1,):
            made.append(_layer(rng, op, gates, (time, batch, 256), 256))
    return made


def _layer(rng: np.random.Generator, op: str, gates: int, shape: Sequence[int], hidden: int) -> Op:
    x = normal(rng, *shape)
    weights = {
        "w": normal(rng, 1, gates * hidden, shape[2], scale=0.06),
        "r": normal(rng, 1, gates * hidden, hidden, scale=0.06),
        "bias": normal(rng, 1, 2 * gates * hidden, scale=0.1),
    }
    node = of(op, ["a", "w", "r", "bias"], ["b"], hidden_size=hidden)
    flops = 2.0 * shape[0] * shape[1] * gates * hidden * (shape[2] + hidden)
    name = f"{op.lower()} {shape[0]} steps {shape[1]}x{shape[2]}-{hidden}"
    return inside(name, node, x, weights, flops)
