"""A Llama-like decoder as onnxruntime-genai's builder writes it: sizes in, the model's bytes and feeds of a step out.

Weights of 4 bits in blocks (MatMulNBits; the table of words too, which the last product shares), GroupQueryAttention
with rotary positions and a cache, RMS norms, SwiGLU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Size:
    layers: int = 2
    hidden: int = 64
    heads: int = 4
    groups: int = 2
    depth: int = 16
    wide: int = 96
    vocabulary: int = 61
    positions: int = 64
    block: int = 16
    packed: bool = False
    """Queries, keys and values of one product."""
    dtype: str = "float32"

    @property
    def queries(self) -> int:
        return self.heads * self.depth

    @property
    def keys(self) -> int:
        return self.groups * self.depth


SMALL = Size()
PACKED = Size(packed=True)
HALF = Size(dtype="float16")


class _Graph:
    def __init__(self, size: Size, seed: int) -> None:
        self.size, self.rng = size, np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Any] = {}

    def op(self, op: str, inputs: list[str], *outputs: str, domain: str = "", **attrs: Any) -> str:
        name = f"/{next(o for o in outputs if o)}/{op}"
        self.nodes.append(helper.make_node(op, inputs, list(outputs), name, domain=domain, **attrs))
        return outputs[0]

    def weight(self, name: str, array: Any) -> str:
        self.weights[name] = array.astype(self.size.dtype) if array.dtype.kind == "f" else array
        return name

    def scale(self, name: str) -> str:
        return self.weight(name, 1 + 0.1 * self.rng.standard_normal(self.size.hidden, np.float32))

    def quantised(self, name: str, rows: int, columns: int) -> tuple[str, str]:
        """Names of the codes u8[rows, blocks, block / 2] and scales f32[rows, blocks]."""
        blocks = columns // self.size.block
        if f"{name}.codes" not in self.weights:
            codes = self.rng.integers(0, 256, (rows, blocks, self.size.block // 2)).astype(np.uint8)
            spread = (0.5 + self.rng.random((rows, blocks), np.float32)) * (columns**-0.5 / 4.6)
            self.weights |= {f"{name}.codes": codes, f"{name}.scales": spread.astype(self.size.dtype)}
        return f"{name}.codes", f"{name}.scales"

    def product(self, x: str, name: str, columns: int, rows: int, output: str) -> str:
        codes, scales = self.quantised(name, rows, columns)
        return self.op("MatMulNBits", [x, codes, scales], output, domain=MICROSOFT, K=columns, N=rows, bits=4,
                       block_size=self.size.block)  # fmt: skip

    def layer(self, n: int, x: str, normed: str) -> tuple[str, str]:
        """(the residual sum, its norm) after a layer."""
        size, at = self.size, f"layers.{n}"
        q, k, v, hidden = size.queries, size.keys, size.keys, size.hidden
        if size.packed:
            operands = [self.product(normed, f"{at}.qkv", hidden, q + k + v, f"{at}.qkv.out"), "", ""]
        else:
            operands = [
                self.product(normed, f"{at}.{part}", hidden, rows, f"{at}.{part}.out")
                for part, rows in (("q", q), ("k", k), ("v", v))
            ]
        past = [f"past_key_values.{n}.key", f"past_key_values.{n}.value"]
        self.op(
            "GroupQueryAttention", [*operands, *past, "seqlens_k", "total_seq_len", "cos_cache", "sin_cache"],
            f"{at}.attention", f"present.{n}.key", f"present.{n}.value", domain=MICROSOFT, do_rotary=1,
            num_heads=size.heads, kv_num_heads=size.groups, scale=size.depth**-0.5, local_window_size=-1,
            rotary_interleaved=0, softcap=0.0,
        )  # fmt: skip
        y = self.product(f"{at}.attention", f"{at}.o", q, hidden, f"{at}.o.out")
        x, normed = self.skipped(x, y, f"{at}.middle")
        gate = self.product(normed, f"{at}.gate", hidden, size.wide, f"{at}.gate.out")
        up = self.product(normed, f"{at}.up", hidden, size.wide, f"{at}.up.out")
        half = self.op("Sigmoid", [gate], f"{at}.sigmoid")
        act = self.op("Mul", [self.op("Mul", [gate, half], f"{at}.silu"), up], f"{at}.act")
        return self.skipped(
            x, self.product(act, f"{at}.down", size.wide, hidden, f"{at}.down.out"), f"{at}.end"
        )

    def skipped(self, x: str, y: str, output: str) -> tuple[str, str]:
        total, normed = f"{output}.sum", f"{output}.norm"
        self.op("SkipSimplifiedLayerNormalization", [x, y, self.scale(f"{output}.weight")], normed, "", "", total,
                domain=MICROSOFT, epsilon=1e-5)  # fmt: skip
        return total, normed


def decoder(size: Size = SMALL, seed: int = 3) -> bytes:
    """input_ids [b, s], attention_mask [b, p + s], past_key_values.N.key and .value [b, groups, p, depth] ->
    logits [b, s, vocabulary], present.N.key and .value [b, groups, p + s, depth]."""
    g = _Graph(size, seed)
    ones = g.weight("one", np.array([1], np.int64))
    counts = g.op("ReduceSum", ["attention_mask", ones], "counts", keepdims=0)
    g.op("Cast", [g.op("Sub", [counts, ones], "ends")], "seqlens_k", to=TensorProto.INT32)
    dims = g.op("Shape", ["attention_mask"], "dims")
    total = g.op("Gather", [dims, g.weight("axis", np.array(1, np.int64))], "total", axis=0)
    g.op("Cast", [total], "total_seq_len", to=TensorProto.INT32)
    angles = np.outer(np.arange(size.positions), 10000.0 ** (-np.arange(0, 1, 2 / size.depth)))
    g.weight("cos_cache", np.cos(angles).astype(np.float32))
    g.weight("sin_cache", np.sin(angles).astype(np.float32))
    codes, scales = g.quantised("words", size.vocabulary, size.hidden)
    g.weight("words.shape", np.array([size.vocabulary, size.hidden // 2], np.int64))
    table = g.op("Reshape", [codes, "words.shape"], "words.flat")
    x = g.op("GatherBlockQuantized", [table, "input_ids", scales], "words.out", domain=MICROSOFT, bits=4,
             block_size=size.block, gather_axis=0, quantize_axis=1)  # fmt: skip
    normed = g.op(
        "SimplifiedLayerNormalization", [x, g.scale("first.weight")], "first", axis=-1, epsilon=1e-5
    )
    for n in range(size.layers):
        x, normed = g.layer(n, x, normed)
    g.product(normed, "words", size.hidden, size.vocabulary, "logits")

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(size.dtype))

    def value(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, list(shape))

    def cache(prefix: str, length: str) -> list[onnx.ValueInfoProto]:
        return [
            value(f"{prefix}.{n}.{part}", kind, "batch", size.groups, length, size.depth)
            for n in range(size.layers)
            for part in ("key", "value")
        ]

    inputs = [
        value("input_ids", TensorProto.INT64, "batch", "sequence"),
        value("attention_mask", TensorProto.INT64, "batch", "total"), *cache("past_key_values", "past"),
    ]  # fmt: skip
    outputs = [
        value("logits", kind, "batch", "sequence", size.vocabulary), *cache("present", "total"),
    ]  # fmt: skip
    held = [numpy_helper.from_array(array, name) for name, array in g.weights.items()]
    graph = helper.make_graph(g.nodes, "decoder", inputs, outputs, held)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    data: bytes = helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()
    return data


def feeds(size: Size, ids: Any, past: dict[str, Any] | None = None, room: int = 0) -> dict[str, Any]:
    """A step: ids [b, s] after `past` (the outputs of the step before by name; None: there was none).

    room: the length of a cache that never grows, whose feeds this pads; 0 for one that does."""
    empty = np.zeros((len(ids), size.groups, room, size.depth), size.dtype)
    parts = {
        f"{n}.{part}": past[f"present.{n}.{part}"] if past else empty
        for n in range(size.layers)
        for part in ("key", "value")
    }
    length = parts["0.key"].shape[2] + ids.shape[1]
    return {
        "input_ids": ids.astype(np.int64), "attention_mask": np.ones((len(ids), length), np.int64),
        **{f"past_key_values.{name}": array for name, array in parts.items()},
    }  # fmt: skip
