"""A decoder that is fed its past, with the nodes that exporters write for GPT-2: takes sizes; gives the model's
bytes and the feeds of a step. The inputs' lengths change with every token, which is what these are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LOW = np.float32(-3.4028235e38)


@dataclass(frozen=True)
class Size:
    layers: int = 12
    hidden: int = 768
    heads: int = 12
    vocabulary: int = 50257
    positions: int = 1024

    @property
    def depth(self) -> int:
        return self.hidden // self.heads


GPT2 = Size()
SMALL = Size(layers=4, hidden=48, heads=4, vocabulary=97, positions=256)


class _Graph:
    """Nodes and weights as they are written down, each node named after the value it gives."""

    def __init__(self, size: Size, seed: int) -> None:
        self.size, self.rng = size, np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}

    def op(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], f"/{output}", **attributes))
        return output

    def ints(self, *values: int, scalar: bool = False) -> str:
        name = f"ints{'' if scalar else '.list'}.{'.'.join(map(str, values))}"
        self.weights[name] = np.array(values[0] if scalar else values, np.int64)
        return name

    def number(self, value: float) -> str:
        self.weights[f"number.{value}"] = np.array(value, np.float32)
        return f"number.{value}"

    def normal(self, name: str, *shape: int, scale: float = 0.02) -> str:
        self.weights[name] = (scale * self.rng.standard_normal(shape, np.float32)).astype(np.float32)
        return name

    def dim(self, value: str, axis: int, output: str) -> str:
        """The size of an axis, known only when the model runs: a list of one."""
        shape = self.op("Shape", [value], f"{output}.shape")
        one = self.op("Gather", [shape, self.ints(axis, scalar=True)], f"{output}.one", axis=0)
        return self.op("Unsqueeze", [one, self.ints(0)], output)

    def reshaped(self, value: str, dims: list[str | int], output: str) -> str:
        parts = [d if isinstance(d, str) else self.ints(d) for d in dims]
        return self.op(
            "Reshape", [value, self.op("Concat", parts, f"{output}.dims", axis=0)], output, allowzero=0
        )

    def dense(self, value: str, width: int, into: int, batch: str, rows: str, output: str) -> str:
        """GPT-2's Conv1D: rows of all sentences under each other, one Gemm, and back."""
        flat = self.op("Reshape", [value, self.ints(-1, width)], f"{output}.flat")
        weight = self.normal(f"{output}.weight", width, into, scale=width**-0.5)
        made = self.op("Gemm", [flat, weight, self.normal(f"{output}.bias", into)], f"{output}.gemm")
        return self.reshaped(made, [batch, rows, into], output)

    def norm(self, value: str, output: str) -> str:
        n = self.size.hidden
        self.weights[f"{output}.weight"] = (1 + 0.1 * self.rng.standard_normal(n)).astype(np.float32)
        bias = self.normal(f"{output}.bias", n, scale=0.1)
        return self.op("LayerNormalization", [value, f"{output}.weight", bias], output, axis=-1, epsilon=1e-5)

    def gelu(self, value: str, output: str) -> str:
        cube = self.op("Pow", [value, self.number(3.0)], f"{output}.cube")
        small = self.op("Mul", [cube, self.number(0.044715)], f"{output}.small")
        both = self.op("Add", [value, small], f"{output}.sum")
        inner = self.op("Mul", [both, self.number(0.7978845834732056)], f"{output}.inner")
        bent = self.op("Tanh", [inner], f"{output}.tanh")
        one = self.op("Add", [bent, self.number(1.0)], f"{output}.one")
        half = self.op("Mul", [value, self.number(0.5)], f"{output}.half")
        return self.op("Mul", [half, one], output)

    def heads(self, value: str, batch: str, rows: str, output: str) -> str:
        cut = self.reshaped(value, [batch, rows, self.size.heads, self.size.depth], f"{output}.cut")
        return self.op("Transpose", [cut], output, perm=[0, 2, 1, 3])

    def attention(self, value: str, layer: int, batch: str, rows: str, mask: str) -> str:
        at, size = f"h.{layer}.attn", self.size
        qkv = self.dense(value, size.hidden, 3 * size.hidden, batch, rows, f"{at}.qkv")
        parts = [f"{at}.q", f"{at}.k", f"{at}.v"]
        self.nodes.append(
            helper.make_node("Split", [qkv, self.ints(*[size.hidden] * 3)], parts, f"/{at}.split", axis=2)
        )
        q, k, v = (self.heads(part, batch, rows, f"{part}.heads") for part in parts)
        keys = self.op("Concat", [f"past_key_values.{layer}.key", k], f"present.{layer}.key", axis=-2)
        values = self.op("Concat", [f"past_key_values.{layer}.value", v], f"present.{layer}.value", axis=-2)
        turned = self.op("Transpose", [keys], f"{at}.turned", perm=[0, 1, 3, 2])
        scores = self.op("MatMul", [q, turned], f"{at}.scores")
        scaled = self.op("Div", [scores, self.number(float(size.depth) ** 0.5)], f"{at}.scaled")
        seen = self.seen(q, keys, at)
        causal = self.op("Where", [seen, scaled, self.number(float(LOW))], f"{at}.causal")
        masked = self.op("Add", [causal, mask], f"{at}.masked")
        weights = self.op("Softmax", [masked], f"{at}.weights", axis=-1)
        mixed = self.op("MatMul", [weights, values], f"{at}.mixed")
        back = self.op("Transpose", [mixed], f"{at}.back", perm=[0, 2, 1, 3])
        joined = self.reshaped(back, [batch, rows, size.hidden], f"{at}.joined")
        return self.dense(joined, size.hidden, size.hidden, batch, rows, f"{at}.proj")

    def seen(self, q: str, keys: str, at: str) -> str:
        """The rows and columns of the triangle that queries and keys are at."""
        n = self.size.positions
        self.weights["triangle"] = np.tril(np.ones((1, 1, n, n), bool))
        here, all_keys = self.dim(q, 2, f"{at}.here"), self.dim(keys, 2, f"{at}.all")
        first = self.op("Sub", [all_keys, here], f"{at}.first")
        rows = self.op("Slice", ["triangle", first, all_keys, self.ints(2), self.ints(1)], f"{at}.rows")
        return self.op("Slice", [rows, self.ints(0), all_keys, self.ints(3), self.ints(1)], f"{at}.triangle")

    def mask(self, batch: str) -> str:
        flat = self.op(
            "Reshape",
            ["attention_mask", self.op("Concat", [batch, self.ints(-1)], "mask.dims", axis=0)],
            "mask.flat",
        )
        wide = self.op("Unsqueeze", [flat, self.ints(1)], "mask.wide")
        wider = self.op("Unsqueeze", [wide, self.ints(2)], "mask.wider")
        number = self.op("Cast", [wider], "mask.number", to=TensorProto.FLOAT)
        off = self.op("Sub", [self.number(1.0), number], "mask.off")
        return self.op("Mul", [off, self.number(float(LOW))], "mask")

    def embedded(self, rows: str) -> str:
        size = self.size
        past = self.dim("past_key_values.0.key", 2, "past.length")
        start = self.op("Squeeze", [past, self.ints(0)], "position.start")
        length = self.op("Squeeze", [rows, self.ints(0)], "position.count")
        end = self.op("Add", [start, length], "position.end")
        places = self.op("Range", [start, end, self.ints(1, scalar=True)], "position.range")
        ids = self.op("Unsqueeze", [places, self.ints(0)], "position_ids")
        words = self.op(
            "Gather", [self.normal("wte", size.vocabulary, size.hidden, scale=0.3), "input_ids"], "words"
        )
        where = self.op("Gather", [self.normal("wpe", size.positions, size.hidden, scale=0.1), ids], "places")
        return self.op("Add", [words, where], "embedded")


def decoder(size: Size = GPT2, seed: int = 7) -> bytes:
    """input_ids [b, s], attention_mask [b, p + s], past_key_values.N.key and .value [b, heads, p, depth] ->
    logits [b, s, vocabulary], present.N.key and .value [b, heads, p + s, depth]."""
    g = _Graph(size, seed)
    batch, rows = g.dim("input_ids", 0, "batch"), g.dim("input_ids", 1, "rows")
    mask, x = g.mask(batch), g.embedded(rows)
    for layer in range(size.layers):
        at = f"h.{layer}"
        seen = g.attention(g.norm(x, f"{at}.ln_1"), layer, batch, rows, mask)
        x = g.op("Add", [seen, x], f"{at}.middle")
        wide = g.dense(g.norm(x, f"{at}.ln_2"), size.hidden, 4 * size.hidden, batch, rows, f"{at}.fc")
        bent = g.gelu(wide, f"{at}.gelu")
        x = g.op(
            "Add", [x, g.dense(bent, 4 * size.hidden, size.hidden, batch, rows, f"{at}.out")], f"{at}.end"
        )
    table = g.op("Transpose", ["wte"], "lm_head", perm=[1, 0])
    g.op("MatMul", [g.norm(x, "ln_f"), table], "logits")

    def value(name: str, kind: int, *dims: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, list(dims))

    def pasts(prefix: str, length: str) -> list[onnx.ValueInfoProto]:
        return [
            value(f"{prefix}.{layer}.{part}", TensorProto.FLOAT, "batch", size.heads, length, size.depth)
            for layer in range(size.layers)
            for part in ("key", "value")
        ]

    inputs = [
        value("input_ids", TensorProto.INT64, "batch", "sequence"),
        value("attention_mask", TensorProto.INT64, "batch", "past + sequence"),
        *pasts("past_key_values", "past"),
    ]
    outputs = [
        value("logits", TensorProto.FLOAT, "batch", "sequence", size.vocabulary),
        *pasts("present", "past + sequence"),
    ]
    weights = [numpy_helper.from_array(array, name) for name, array in g.weights.items()]
    graph = helper.make_graph(g.nodes, "decoder", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def feeds(size: Size, ids: np.ndarray, past: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """A step: ids [b, s] after `past` (the outputs of the step before by name; None: there was none)."""
    empty = np.zeros((len(ids), size.heads, 0, size.depth), np.float32)
    parts = {
        f"{layer}.{part}": (past[f"present.{layer}.{part}"] if past else empty)
        for layer in range(size.layers)
        for part in ("key", "value")
    }
    length = parts["0.key"].shape[2] + ids.shape[1]
    return {
        "input_ids": ids.astype(np.int64),
        "attention_mask": np.ones((len(ids), length), np.int64),
        **{f"past_key_values.{name}": array for name, array in parts.items()},
    }
