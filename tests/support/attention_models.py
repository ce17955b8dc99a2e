"""Attention as exporters write it: heads side by side in the inputs, keys shared by groups of heads, masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper, numpy_helper

LOW = np.float32(-3.4028235e38)


def model(
    batch: int, heads: int, group: int, rows: int, keys: int, depth: int, width: int, dtype: Any, mask: Any,
    scale: float,
) -> bytes:  # fmt: skip
    """softmax(q k' * scale + mask) v, heads side by side in the inputs; `group` query heads for each of `heads`."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    shapes = {"q": (batch, rows, heads * group * depth), "k": (batch, keys, heads * depth),
              "v": (batch, keys, heads * width)}  # fmt: skip
    constants = {"qs": [0, 0, heads * group, depth], "ks": [0, 0, heads, depth], "vs": [0, 0, heads, width],
                 "out": [0, 0, heads * group * width], "ax": [2],
                 "ke": [batch, heads, group, keys, depth], "kr": [batch, heads * group, keys, depth],
                 "ve": [batch, heads, group, keys, width], "vr": [batch, heads * group, keys, width]}  # fmt: skip
    nodes: list[Any] = []

    def add(op: str, inputs: str, output: str, **attrs: Any) -> None:
        nodes.append(helper.make_node(op, inputs.split(), [output], **attrs))

    for x in "qkv":
        add("Reshape", f"{x} {x}s", f"{x}1")
        add("Transpose", f"{x}1", f"{x}2", perm=[0, 2, 1, 3])
    for x in "kv":
        if group > 1:
            add("Unsqueeze", f"{x}2 ax", f"{x}3")
            add("Expand", f"{x}3 {x}e", f"{x}4")
            add("Reshape", f"{x}4 {x}r", f"{x}5")
    k, v = ("k5", "v5") if group > 1 else ("k2", "v2")
    add("Transpose", k, "kt", perm=[0, 1, 3, 2])
    add("MatMul", "q2 kt", "s")
    add("Mul", "s scale", "s1")
    add("Add" if mask is not None else "Identity", "s1 mask" if mask is not None else "s1", "s2")
    add("Softmax", "s2", "p", axis=-1)
    add("MatMul", f"p {v}", "o")
    add("Transpose", "o", "o1", perm=[0, 2, 1, 3])
    add("Reshape", "o1 out", "y")
    initializers = [numpy_helper.from_array(np.array(a, np.int64), n) for n, a in constants.items()]
    initializers.append(numpy_helper.from_array(np.array(scale, dtype), "scale"))
    inputs = [helper.make_tensor_value_info(n, kind, s) for n, s in shapes.items()]
    if isinstance(mask, tuple):  # a shape: fed
        inputs.append(helper.make_tensor_value_info("mask", kind, mask))
    elif mask is not None:
        initializers.append(numpy_helper.from_array(mask.astype(dtype), "mask"))
    graph = helper.make_graph(
        nodes, "g", inputs, [helper.make_tensor_value_info("y", kind, None)], initializers
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    data: bytes = made.SerializeToString()
    return data
