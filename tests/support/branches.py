"""Models of several products of one left factor, as attention and gated layers have them: (bytes, feeds) of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

N = helper.make_node


@dataclass(frozen=True)
class Branch:
    """A product: its width, form (matmul, gemm, gemm turned, transpose), whether it has a bias, a scale, an activation;
    reader: heads, output, residual or concat."""

    width: int
    form: str = "matmul"
    bias: bool = True
    scale: bool = False
    after: str = ""
    reader: str = "heads"


def model(
    branches: list[Branch],
    k: int = 40,
    batch: tuple[int, ...] = (3,),
    dtype: Any = np.float32,
    pairs: bool = False,
) -> tuple[bytes, dict[str, Any]]:
    """Branches of one input [*batch, k]; Gemms take it as a matrix. pairs: the first two also meet in a product."""
    rng = np.random.default_rng([k, len(branches), *batch])

    def f(*shape: int) -> Any:
        return rng.normal(0, 0.4, shape).astype(dtype)

    x, nodes, weights, outputs = f(*batch, k), [], {}, []
    rows = int(np.prod(batch))
    weights["flat"] = np.array([rows, k])
    nodes += [N("Neg", ["x"], ["a"], "before"), N("Reshape", ["a", "flat"], ["f"], "flatten")]
    for i, b in enumerate(branches):
        turned = b.form in ("gemm turned", "transpose")
        weights[f"w{i}"] = f(*((b.width, k) if turned else (k, b.width)))
        at, gemm = f"p{i}", b.form.startswith("gemm")
        if b.bias:
            weights[f"b{i}"] = f(b.width)
        if gemm:
            ins = ["f", f"w{i}", *([f"b{i}"] if b.bias else [])]
            nodes.append(N("Gemm", ins, [at], f"product{i}", transB=int(turned)))
        else:
            if turned:
                nodes.append(N("Transpose", [f"w{i}"], [f"t{i}"], f"turn{i}", perm=[1, 0]))
            nodes.append(N("MatMul", ["a", f"t{i}" if turned else f"w{i}"], [at], f"product{i}"))
            if b.bias:
                nodes.append(N("Add", [f"b{i}", at], [f"{at}b"], f"bias{i}"))
                at = f"{at}b"
        if b.scale:
            weights["scale"] = np.array(0.125, dtype)
            nodes.append(N("Mul", [at, "scale"], [f"{at}s"], f"scale{i}"))
            at = f"{at}s"
        if b.after:
            nodes.append(N(b.after, [at], [f"{at}r"], f"after{i}"))
            at = f"{at}r"
        out, lead = f"y{i}", (rows,) if gemm else batch
        if b.reader == "output":
            nodes.append(N("Identity", [at], [out], f"out{i}"))
        elif b.reader == "residual":
            nodes += [N("ReduceSum", ["f" if gemm else "a", "last"], [f"s{i}"], f"sum{i}", keepdims=1)]
            weights["last"] = np.array([-1])
            nodes.append(N("Add", [at, f"s{i}"], [out], f"residual{i}"))
        elif b.reader == "concat":
            nodes.append(N("Concat", [at, "f" if gemm else "a"], [out], f"concat{i}", axis=-1))
        else:
            heads = 2 - b.width % 2
            weights[f"heads{i}"] = np.array([*lead, heads, b.width // heads])
            first = len(lead) - 1
            perm = [*range(first), first + 1, first, first + 2]
            nodes += [
                N("Reshape", [at, f"heads{i}"], [f"h{i}"], f"split{i}"),
                N("Transpose", [f"h{i}"], [f"u{i}"], f"order{i}", perm=perm),
                N("Softmax", [f"u{i}"], [out], f"soft{i}", axis=-1),
            ]  # fmt: skip
        outputs.append(out)
    if pairs:
        first = len(batch) - 1
        perm = [*range(first), first, first + 2, first + 1]
        nodes.append(N("Transpose", ["u1"], ["k1"], "keys", perm=perm))
        nodes.append(N("MatMul", ["u0", "k1"], ["scores"], "scores"))
        outputs.append("scores")
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes, "branches", [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info(o, kind, None) for o in outputs],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    data: bytes = made.SerializeToString()
    return data, {"x": x}


def decoder(
    layers: int = 2, width: int = 32, heads: int = 4, rows: int = 6, seen: int = 9
) -> tuple[bytes, dict[str, Any]]:
    """A decoder's layers, each with attention to itself and to what an encoder gave, both [1, length, width]."""
    rng = np.random.default_rng(7)
    nodes: list[Any] = []
    weights: dict[str, Any] = {
        "split": np.array([1, -1, heads, width // heads]),
        "join": np.array([1, rows, width]),
    }
    weights["scale"] = np.array((width // heads) ** -0.5, np.float32)

    def add(op: str, ins: list[str], name: str, **attrs: Any) -> str:
        nodes.append(N(op, ins, [f"{name}:0"], name, **attrs))
        return f"{name}:0"

    def dense(x: str, name: str, inner: int = width, outer: int = width) -> str:
        weights[f"{name}.w"] = rng.normal(0, 0.2, (inner, outer)).astype(np.float32)
        weights[f"{name}.b"] = rng.normal(0, 0.2, outer).astype(np.float32)
        return add("Add", [add("MatMul", [x, f"{name}.w"], name), f"{name}.b"], f"{name}.bias")

    def split(x: str, name: str, perm: list[int]) -> str:
        return add("Transpose", [add("Reshape", [x, "split"], f"{name}.split")], f"{name}.order", perm=perm)

    def attend(x: str, source: str, name: str) -> str:
        q = split(dense(x, f"{name}.q"), f"{name}.q", [0, 2, 1, 3])
        k = split(dense(source, f"{name}.k"), f"{name}.k", [0, 2, 3, 1])
        v = split(dense(source, f"{name}.v"), f"{name}.v", [0, 2, 1, 3])
        scores = add("Mul", [add("MatMul", [q, k], f"{name}.scores"), "scale"], f"{name}.scale")
        y = add("MatMul", [add("Softmax", [scores], f"{name}.soft", axis=-1), v], f"{name}.mix")
        y = add("Reshape", [add("Transpose", [y], f"{name}.back", perm=[0, 2, 1, 3]), "join"], f"{name}.join")
        y = add("Add", [dense(y, f"{name}.out"), x], f"{name}.residual")
        for part in ("g", "b"):
            weights[f"{name}.{part}"] = rng.normal(1, 0.2, width).astype(np.float32)
        return add("LayerNormalization", [y, f"{name}.g", f"{name}.b"], f"{name}.norm")

    x = "x"
    for i in range(layers):
        x = attend(attend(x, x, f"self{i}"), "seen", f"cross{i}")
    nodes.append(N("Identity", [x], ["y"], "end"))
    feeds = {n: rng.normal(0, 1, (1, m, width)).astype(np.float32) for n, m in (("x", rows), ("seen", seen))}
    graph = helper.make_graph(
        nodes, "decoder", [helper.make_tensor_value_info(n, 1, a.shape) for n, a in feeds.items()],
        [helper.make_tensor_value_info("y", 1, None)], [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    data: bytes = made.SerializeToString()
    return data, feeds
