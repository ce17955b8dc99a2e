"""A model written node by node, as an exporter would: `Net` takes calls, gives bytes and feeds.

    n = Net(opset=17)
    x = n.feed("x", (1, 3, 32, 32))
    y = n.Relu(n.Conv(x, n.weight(8, 3, 3, 3), pads=[1, 1, 1, 1]))
    n.output(y)

An operator is a method; what is no name of a value becomes a constant: a float of the net's type, ints of i64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Names = Any
"""The name of a value, or a list of them where a node has several outputs."""


class Net:
    """dtype: of feeds, weights and float constants. `dynamic` names the dimensions of feeds."""

    def __init__(self, opset: int = 17, dtype: str = "float32", seed: int = 0) -> None:
        self.opset, self.dtype = opset, dtype
        self.numbers = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}
        self.feeds: dict[str, Any] = {}
        self.dims: dict[str, Sequence[Any]] = {}
        self.results: list[str] = []
        self.local: list[Any] = []
        self.made = 0

    # -- values

    def name(self, stem: str) -> str:
        self.made += 1
        return f"{stem}_{self.made}"

    def feed(self, name: str, given: Any, dims: Sequence[Any] | None = None) -> str:
        """given: an array, or the shape of random numbers. dims: as the model declares them."""
        array = given if isinstance(given, np.ndarray) else self.normal(given, 1.0)
        self.feeds[name] = array
        self.dims[name] = dims or array.shape
        return name

    def normal(self, shape: Sequence[int], scale: float) -> Any:
        return np.asarray(self.numbers.normal(0, scale, tuple(shape)), self.dtype)

    def weight(self, *shape: int, scale: float | None = None, middle: float = 0.0) -> str:
        """Numbers whose sums of products stay of the size of what they multiply."""
        size = scale if scale is not None else max(1, int(np.prod(shape[1:]))) ** -0.5
        return self.hold(self.normal(shape, size) + np.asarray(middle, self.dtype))

    def hold(self, array: Any, stem: str = "w") -> str:
        """An initializer."""
        name = self.name(stem)
        self.weights[name] = np.asarray(array)
        return name

    def constant(self, value: Any) -> str:
        """A Constant node: numpy as it is, floats in the net's type, ints and lists of ints in i64."""
        if isinstance(value, np.ndarray | np.generic):
            array = np.asarray(value)
        else:
            whole = np.asarray(value).dtype.kind
            kind: Any = {"b": np.bool_, "i": np.int64}.get(whole, self.dtype)
            array = np.asarray(value, kind)
        return str(self.node("Constant", value=numpy_helper.from_array(array)))

    def output(self, *names: str) -> None:
        self.results += names

    # -- nodes

    def node(self, op: str, *inputs: Any, outputs: int = 1, domain: str = "", **attrs: Any) -> Names:
        names = ["" if v is None else v if isinstance(v, str) else self.constant(v) for v in inputs]
        made = [self.name(op) for _ in range(outputs)]
        given = {k: v for k, v in attrs.items() if v is not None}
        self.nodes.append(
            helper.make_node(op, names, made, name=f"{op}_node_{self.made}", domain=domain, **given)
        )
        return made[0] if outputs == 1 else made

    def __getattr__(self, op: str) -> Callable[..., Names]:
        if not op[:1].isupper():
            raise AttributeError(op)
        return lambda *inputs, **attrs: self.node(op, *inputs, **attrs)

    # -- operators whose form changed with the opset

    def cast(self, x: str, dtype: str) -> str:
        return str(self.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))))

    def unsqueeze(self, x: str, *axes: int) -> str:
        if self.opset < 13:
            return str(self.node("Unsqueeze", x, axes=list(axes)))
        return str(self.node("Unsqueeze", x, list(axes)))

    def squeeze(self, x: str, *axes: int) -> str:
        if self.opset < 13:
            return str(self.node("Squeeze", x, axes=list(axes)))
        return str(self.node("Squeeze", x, list(axes)))

    def split(self, x: str, sizes: Sequence[int], axis: int) -> list[str]:
        if self.opset < 13:
            return list(self.node("Split", x, outputs=len(sizes), axis=axis, split=list(sizes)))
        return list(self.node("Split", x, list(sizes), outputs=len(sizes), axis=axis))

    def reduce(self, op: str, x: str, axes: Sequence[int], keepdims: int = 1) -> str:
        """ReduceMean and its like; axes became an input with 18, those of ReduceSum with 13."""
        if self.opset >= (13 if op == "ReduceSum" else 18):
            return str(self.node(op, x, list(axes), keepdims=keepdims))
        return str(self.node(op, x, axes=list(axes), keepdims=keepdims))

    def resize(self, x: str, scales: Sequence[float] | None = None, sizes: Any = None, **attrs: Any) -> str:
        """roi became optional with 13; before, exporters write an empty one."""
        roi = None if self.opset >= 13 else self.constant(np.zeros(0, np.float32))
        if scales is not None:
            return str(self.node("Resize", x, roi, self.constant(np.asarray(scales, np.float32)), **attrs))
        none = None if self.opset >= 13 else self.constant(np.zeros(0, np.float32))
        return str(self.node("Resize", x, roi, none, sizes, **attrs))

    def dim(self, x: str, axis: int) -> str:
        """A dimension as TorchScript asks for it: Gather of Shape."""
        return str(self.node("Gather", self.Shape(x), axis, axis=0))

    def reshape_by(self, x: str, *dims: Any) -> str:
        """Reshape to dims that are numbers or scalars of the model: Concat of Unsqueeze, as TorchScript writes it."""
        parts = [self.unsqueeze(d if isinstance(d, str) else self.constant(d), 0) for d in dims]
        return str(self.node("Reshape", x, self.node("Concat", *parts, axis=0)))

    # -- what comes out

    def model(self) -> Any:
        def info(name: str, array: Any) -> Any:
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            return helper.make_tensor_value_info(name, kind, list(self.dims[name]))

        graph = helper.make_graph(
            self.nodes,
            "net",
            [info(n, a) for n, a in self.feeds.items()],
            [helper.make_empty_tensor_value_info(n) for n in self.results],
            [numpy_helper.from_array(a, n) for n, a in self.weights.items()],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        domains = sorted({n.domain for n in self.nodes if n.domain})
        opsets += [helper.make_opsetid(d, 1) for d in domains]
        version = 7 if self.opset < 15 else 8 if self.opset < 19 else 10
        made = helper.make_model(graph, opset_imports=opsets, functions=self.local, ir_version=version)
        typed = onnx.shape_inference.infer_shapes(made)
        for out, known in zip(made.graph.output, typed.graph.output, strict=True):
            out.type.tensor_type.elem_type = known.type.tensor_type.elem_type or onnx.TensorProto.FLOAT
        return made

    def bytes(self) -> bytes:
        data: bytes = self.model().SerializeToString()
        return data
