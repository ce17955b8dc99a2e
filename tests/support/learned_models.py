"""Models of ai.onnx.ml: one node as a model, random trees, features with and without gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

Array = Any
ML = "ai.onnx.ml"
FLOAT, DOUBLE, INT, TEXT = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.STRING


def model_of(
    op: str, feeds: Mapping[str, Array], outputs: Sequence[int], attrs: Mapping[str, Any], since: int
) -> bytes:
    def kind(a: Array) -> int:
        return TEXT if a.dtype == object else int(helper.np_dtype_to_tensor_dtype(a.dtype))

    names = [f"y{i}" for i in range(len(outputs))]
    node = helper.make_node(op, list(feeds), names, "node", domain=ML, **attrs)
    graph = helper.make_graph(
        [node], op, [helper.make_tensor_value_info(n, kind(a), a.shape) for n, a in feeds.items()],
        [helper.make_tensor_value_info(n, t, None) for n, t in zip(names, outputs, strict=True)],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(ML, since)]
    data: bytes = helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
    return data


def grown(
    rng: np.random.Generator, trees: int, depth: int, features: int, modes: Sequence[str]
) -> tuple[dict[str, list[Any]], list[tuple[int, int]]]:
    """(attributes nodes_*, leaves by tree and node) of random trees"""
    keys = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids",
            "missing_value_tracks_true")  # fmt: skip
    found: dict[str, list[Any]] = {f"nodes_{k}": [] for k in keys}
    leaves: list[tuple[int, int]] = []

    def grow(tree: int, left: int, count: list[int]) -> int:
        number, row = count[0], len(found["nodes_treeids"])
        count[0] += 1
        leaf = left == 0 or (left < depth and rng.random() < 0.2)
        values = (tree, number, 0, 0.0, "LEAF", 0, 0, 0)
        for key, value in zip(found, values, strict=True):
            found[key].append(value)
        if leaf:
            leaves.append((tree, number))
            return number
        found["nodes_modes"][row] = str(rng.choice(np.array(modes)))
        found["nodes_featureids"][row] = int(rng.integers(features))
        found["nodes_values"][row] = float(np.float32(rng.normal()))
        found["nodes_missing_value_tracks_true"][row] = int(rng.integers(2))
        found["nodes_truenodeids"][row] = grow(tree, left - 1, count)
        found["nodes_falsenodeids"][row] = grow(tree, left - 1, count)
        return number

    for tree in range(trees):
        grow(tree, depth, [0])
    return found, leaves


def features(rng: np.random.Generator, missing: bool = False) -> Array:
    x = rng.normal(size=(9, 5)).astype(np.float32)
    if missing:
        x[2, 1] = x[4, 0] = np.nan
    return x


def classifier(rng: np.random.Generator) -> dict[str, Any]:
    """Attributes of trees for three classes, each leaf with a say on every one."""
    nodes, leaves = grown(rng, 5, 3, 5, ["BRANCH_LEQ"])
    said = [(leaf, k) for leaf in leaves for k in range(3)]
    return nodes | {
        "class_treeids": [leaf[0] for leaf, _ in said], "class_nodeids": [leaf[1] for leaf, _ in said],
        "class_ids": [k for _, k in said], "classlabels_int64s": [7, 3, 5],
        "class_weights": rng.random(len(said)).astype(np.float32).tolist(), "post_transform": "SOFTMAX",
    }  # fmt: skip
