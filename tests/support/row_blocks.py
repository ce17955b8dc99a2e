"""Models of a product with a long sum, a bias and a residual, and a norm of its rows: (bytes, feeds) of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

N = helper.make_node


@dataclass(frozen=True)
class Block:
    """x[rows] @ w[deep, 40] + bias + r, then a norm. other: who reads besides what is normed: reader, output,
    reference, part (a norm of some rows, before the other norm) or second (the norm and another such sum are added,
    and that sum has a norm too); flat: a Reshape before the norm."""

    rows: tuple[int, ...] = (6,)
    norm: str = "LayerNormalization"
    dtype: Any = np.float32
    other: str = ""
    flat: bool = False
    deep: int = 768

    def model(self) -> tuple[bytes, dict[str, Any]]:
        rng = np.random.default_rng([len(self.rows), *self.rows])

        def f(*shape: int) -> Any:
            return rng.normal(0, 0.2, shape).astype(self.dtype)

        x, r, n = f(*self.rows, self.deep), f(*self.rows, 40), int(np.prod(self.rows))
        weights = {"w": f(self.deep, 40), "b": f(40), "g": f(40), "h": f(40), "flat": np.array([n, 40])}
        nodes = [N("MatMul", ["x", "w"], ["p"], "product"), N("Add", ["p", "b"], ["q"], "bias"),
                 N("Add", ["q", "r"], ["v"], "residual")]  # fmt: skip
        ins = ["v", "g", "h"] if self.norm == "LayerNormalization" else ["v", "g"]
        if self.flat:
            nodes.append(N("Reshape", ["v", "flat"], ["vf"], "flatten"))
            ins[0] = "vf"
        if self.other == "part":
            weights |= {"from": np.array([0]), "to": np.array([1]), "first": np.array([0])}
            nodes += [N("Slice", ["v", "from", "to", "first"], ["c"], "part"),
                      N(self.norm, ["c", *ins[1:]], ["z"], "norm of part", axis=-1)]  # fmt: skip
        if self.other == "second":
            weights["w2"] = f(self.deep, 40)
            nodes += [N("Exp", ["x"], ["x2"], "other"), N("MatMul", ["x2", "w2"], ["p2"], "second product"),
                      N("Add", ["p2", "h"], ["v2"], "second bias")]  # fmt: skip
        nodes.append(N(self.norm, ins, ["y"], "norm", axis=-1))
        outputs = ["y"]
        if self.other == "reader":
            nodes += [N("Relu", ["y"], ["a"], "relu"), N("Mul", ["v", "v"], ["z"], "again")]
            outputs = ["a", "z"]
        elif self.other == "output":
            outputs.append("v")
        elif self.other == "reference":
            nodes += [N("Cast", ["v"], ["d"], "wide", to=11), N("Exp", ["d"], ["e"], "double"),
                      N("Cast", ["e"], ["z"], "narrow", to=1)]  # fmt: skip
            outputs.append("z")
        elif self.other == "part":
            outputs.append("z")
        elif self.other == "second":
            nodes += [
                N("Add", ["y", "v2"], ["a"], "both"),
                N(self.norm, ["v2", *ins[1:]], ["z"], "second norm", axis=-1),
            ]
            outputs = ["a", "z"]
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        graph = helper.make_graph(
            nodes, "block", [helper.make_tensor_value_info(n, kind, a.shape) for n, a in (("x", x), ("r", r))],
            [helper.make_tensor_value_info(o, kind, None) for o in outputs],
            [numpy_helper.from_array(a, n) for n, a in weights.items()],
        )  # fmt: skip
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
        return made.SerializeToString(), {"x": x, "r": r}
