"""BERT as onnxruntime's transformer optimizer leaves it: EmbedLayerNormalization, Attention with its projections and a
mask of lengths or of ones, SkipLayerNormalization, BiasGelu. Takes sizes; gives the model's bytes and its feeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
WORDS, PLACES, KINDS = 50, 24, 2


def bert(layers: int = 2, hidden: int = 32, heads: int = 4, mask: str = "ones", seed: int = 5) -> bytes:
    """input_ids, token_type_ids, attention_mask i64[b, s] -> hidden f32[b, s, hidden]. mask: 'ones' (one number a
    word) or 'lengths' (one a sentence, from EmbedLayerNormalization)."""
    rng = np.random.default_rng(seed)
    weights: dict[str, Any] = {}
    nodes: list[onnx.NodeProto] = []

    def weight(name: str, *shape: int, scale: float = 0.2, middle: float = 0.0) -> str:
        weights[name] = (middle + scale * rng.standard_normal(shape)).astype(np.float32)
        return name

    def op(op: str, inputs: list[str], *outputs: str, **attrs: Any) -> str:
        domain = "" if op in ("Cast", "MatMul") else MICROSOFT
        nodes.append(
            helper.make_node(op, inputs, list(outputs), f"{op}_{len(nodes)}", domain=domain, **attrs)
        )
        return outputs[0]

    def norm(name: str) -> list[str]:
        return [weight(f"{name}.gamma", hidden, middle=1.0), weight(f"{name}.beta", hidden)]

    ids, kinds, seen = (op("Cast", [n], f"{n}.i32", to=TensorProto.INT32)
                        for n in ("input_ids", "token_type_ids", "attention_mask"))  # fmt: skip
    tables = [
        weight("words", WORDS, hidden),
        weight("places", PLACES, hidden),
        weight("kinds", KINDS, hidden),
    ]
    x = op("EmbedLayerNormalization", [ids, kinds, *tables, *norm("embed"), seen], "embedded", "lengths",
           epsilon=1e-12)  # fmt: skip
    for n in range(layers):
        at = f"layer.{n}"
        projection = [weight(f"{at}.qkv", hidden, 3 * hidden), weight(f"{at}.qkv.bias", 3 * hidden)]
        y = op("Attention", [x, *projection, seen if mask == "ones" else "lengths"], f"{at}.attended",
               num_heads=heads)  # fmt: skip
        y = op("MatMul", [y, weight(f"{at}.out", hidden, hidden)], f"{at}.projected")
        x = op("SkipLayerNormalization", [y, x, *norm(f"{at}.middle"), weight(f"{at}.out.bias", hidden)],
               f"{at}.between", epsilon=1e-12)  # fmt: skip
        y = op("MatMul", [x, weight(f"{at}.up", hidden, 4 * hidden)], f"{at}.wide")
        y = op("BiasGelu", [y, weight(f"{at}.up.bias", 4 * hidden)], f"{at}.bent")
        y = op("MatMul", [y, weight(f"{at}.down", 4 * hidden, hidden)], f"{at}.narrow")
        x = op("SkipLayerNormalization", [y, x, *norm(f"{at}.end"), weight(f"{at}.down.bias", hidden)],
               "hidden" if n == layers - 1 else f"{at}.done", epsilon=1e-12)  # fmt: skip

    def value(name: str, kind: int, dims: list[Any]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, dims)

    graph = helper.make_graph(
        nodes, "bert",
        [value(n, TensorProto.INT64, ["batch", "words"]) for n in ("input_ids", "token_type_ids", "attention_mask")],
        [value("hidden", TensorProto.FLOAT, ["batch", "words", hidden])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 14), helper.make_opsetid(MICROSOFT, 1)]
    data: bytes = helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
    return data


def feeds(lengths: list[int], words: int, seed: int = 1) -> dict[str, Any]:
    """A batch of sentences of these lengths, padded to `words`."""
    rng = np.random.default_rng(seed)
    shape = (len(lengths), words)
    return {
        "input_ids": rng.integers(0, WORDS, shape), "token_type_ids": rng.integers(0, KINDS, shape),
        "attention_mask": (np.arange(words) < np.array(lengths)[:, None]).astype(np.int64),
    }  # fmt: skip
