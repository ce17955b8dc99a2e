"""Random models, built node by node: onnx.reference evaluates each node as it is added, so every value is known.

`Builder(seed, area).build(steps)` -> Case: nodes, constants, feeds, and what every value must be.
A value carries a *shadow*: the same computation with each step's result shaken by its rounding. How far the
two lie apart tells how much of a difference is rounding, whatever the chain amplifies.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Shape = tuple[int, ...]
ROUNDING = {"float16": 2.0**-10, "float32": 2.0**-21, "float64": 2.0**-42}
LIMIT = 4000  # elements of a value: enough for tails of every tile, small enough for thousands of cases
HUGE = {"float16": 500.0, "float32": 1e6, "float64": 1e6}

DOUBTED = {
    "Loop",
    "ConvTranspose",
    "Swish",
    "LpNormalization",
    "CumSum",
    "GridSample",
    "GlobalMaxPool",
    "LRN",
}
"""Operators of which onnx.reference 1.23 gets some cases wrong, as onnxruntime says."""


class Rejected(Exception):
    """This node can't be added: the reference refuses it, or its values say nothing."""


@dataclass(slots=True)
class Value:
    """A tensor by name; `exact`: no step before it rounds, so that a discontinuous operator may read it."""

    name: str
    array: Any
    shadow: Any
    exact: bool

    @property
    def shape(self) -> Shape:
        return tuple(self.array.shape)

    @property
    def rank(self) -> int:
        return int(self.array.ndim)

    @property
    def dtype(self) -> str:
        return str(self.array.dtype)


@dataclass
class Case:
    """A model in parts, so that `shrink` can take nodes away: what no node makes is fed or constant."""

    nodes: list[Any]
    constants: set[str]
    values: dict[str, Value]
    outputs: list[str]
    opset: int
    symbolic: set[str] = field(default_factory=set)

    def leaves(self) -> list[str]:
        """Names that nodes or outputs read and no node makes, in order."""
        made = {name for node in self.nodes for name in node.output}
        read = [name for node in self.nodes for name in (*node.input, *captured(node)) if name]
        return [name for name in dict.fromkeys([*read, *self.outputs]) if name not in made]

    def feeds(self) -> dict[str, Any]:
        return {n: self.values[n].array for n in self.leaves() if n not in self.constants}

    def model(self) -> bytes:
        def info(name: str) -> Any:
            array = self.values[name].array
            dims = [f"{name}_{d}" if name in self.symbolic else n for d, n in enumerate(array.shape)]
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), dims)

        leaves = self.leaves()
        graph = helper.make_graph(
            self.nodes,
            "fuzz",
            [info(n) for n in leaves if n not in self.constants],
            [self.info_of_output(n) for n in self.outputs],
            [numpy_helper.from_array(self.values[n].array, n) for n in leaves if n in self.constants],
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
        return data

    def info_of_output(self, name: str) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(self.values[name].array.dtype)
        return helper.make_tensor_value_info(name, kind, None)

    def text(self) -> str:
        """The model and its feeds as one can read them."""
        lines = []
        for node in self.nodes:
            attrs = ", ".join(attribute_text(a) for a in node.attribute)
            lines.append(
                f"{', '.join(node.output)} = {node.op_type}({', '.join(node.input)}) {attrs}".rstrip()
            )
        for name in self.leaves():
            v = self.values[name]
            kind = "constant" if name in self.constants else "feed"
            shown = np.array2string(v.array, threshold=24, edgeitems=3, separator=",").replace("\n", "")
            lines.append(f"  {kind} {name} {v.dtype}{list(v.shape)} = {shown}")
        return "\n".join([*lines, f"  outputs {self.outputs} opset {self.opset}"])


def attribute_text(a: Any) -> str:
    value = helper.get_attribute_value(a)
    if a.type == onnx.AttributeProto.GRAPH:
        return f"{a.name}={{{'; '.join(n.op_type for n in value.node)}}}"
    return f"{a.name}={value!r}"


def captured(node: Any) -> list[str]:
    """Outer values that the bodies of a node read."""
    found: list[str] = []
    for a in node.attribute:
        if a.type == onnx.AttributeProto.GRAPH:
            inside = {i.name for i in a.g.input} | {i.name for i in a.g.initializer}
            inside |= {name for n in a.g.node for name in n.output}
            found += [name for n in a.g.node for name in n.input if name and name not in inside]
    return found


class Builder:
    """Adds nodes at random. `extremes`: values may be infinite, NaN or -0.0; `huge`: as large as the type holds;
    `half`: float16 wherever a step leaves it the choice."""

    def __init__(
        self,
        seed: int,
        opset: int | None = None,
        extremes: bool = False,
        huge: bool = False,
        half: bool = False,
    ) -> None:
        self.chance = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.opset = opset or self.chance.choice([18, 21, 23])
        self.extremes, self.huge, self.half = extremes, huge, half
        self.limit = LIMIT
        self.doubted: set[str] = set()
        self.nodes: list[Any] = []
        self.values: dict[str, Value] = {}
        self.constants: set[str] = set()
        self.symbolic: set[str] = set()

    # -- chance

    def one(self, options: Sequence[Any]) -> Any:
        chosen = self.chance.choice(list(options))
        return "float16" if self.half and "float16" in options else chosen

    def often(self, probability: float) -> bool:
        return self.chance.random() < probability

    def size(self) -> int:
        return int(self.one([1, 1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17] if self.often(0.9) else [0, 31, 33]))

    def some_shape(self, low: int = 0, high: int = 4) -> Shape:
        return tuple(self.size() for _ in range(self.chance.randint(low, high)))

    def spread(self, shape: Shape) -> Shape:
        """A shape that broadcasts to `shape`."""
        small = tuple(1 if self.often(0.35) else n for n in shape)
        return small[self.chance.randrange(len(shape) + 1) if self.often(0.3) else 0 :]

    # -- values

    def numbers_of(
        self, dtype: str, shape: Shape, low: float | None = None, high: float | None = None
    ) -> Any:
        if dtype == "bool":
            return self.numbers.random(shape) < 0.5
        if dtype.startswith("float"):
            if low is not None and high is not None:
                return np.asarray(self.numbers.uniform(low, high, shape), dtype)
            found = np.asarray(self.numbers.normal(0, self.one([0.3, 1, 3]), shape), dtype)
            if self.extremes and self.often(0.6):
                top = np.finfo(dtype)
                odd = [np.inf, -np.inf, np.nan, -0.0, 0.0, top.tiny, top.smallest_subnormal]
                odd += [top.max, -top.max] if self.huge else []
                mask = self.numbers.random(shape) < 0.2
                found = np.where(mask, self.numbers.choice(np.array(odd, dtype), shape), found)
            return np.asarray(found, dtype)
        info = np.iinfo(dtype)
        if low is None or high is None:
            wide = self.extremes or info.bits == 8
            low, high = (info.min, info.max) if wide else (0 if info.min == 0 else -20, 20)
        kind = np.uint64 if high > np.iinfo(np.int64).max else np.int64
        return np.asarray(self.numbers.integers(int(low), int(high), shape, kind, endpoint=True), dtype)

    def leaf(self, array: Any, constant: bool | None = None) -> Value:
        """A new feed or constant."""
        array = np.asarray(array)
        name = f"x{len(self.values)}"
        self.values[name] = found = Value(name, array, array, True)
        if constant if constant is not None else self.often(0.4):
            self.constants.add(name)
        elif self.often(0.3):
            self.symbolic.add(name)
        return found

    def constant(self, value: Any, dtype: str = "float32") -> Value:
        """A constant of the model."""
        return self.leaf(np.array(value, dtype), True)

    def fresh(self, dtype: str, shape: Shape, low: float | None = None, high: float | None = None) -> Value:
        return self.leaf(self.numbers_of(dtype, shape, low, high))

    def weights(self, dtype: str, shape: Shape) -> Value:
        """Numbers whose sums of products stay of the size of what they multiply; mostly constant."""
        many = max(1, int(np.prod(shape[1:])))
        return self.leaf(np.asarray(self.numbers.normal(0, many**-0.5, shape), dtype), self.often(0.75))

    def ints(self, *numbers: int) -> Value:
        """A constant of i64, as shapes and axes are given."""
        return self.leaf(np.array(numbers, np.int64), True)

    def ints_scalar(self, number: int) -> Value:
        return self.leaf(np.array(number, np.int64), True)

    def pick(self, fits: Callable[[Value], bool], make: Callable[[], Value] | None = None) -> Value:
        """One of the latest values that fits; otherwise a new one."""
        found = [v for v in list(self.values.values())[-12:] if fits(v)]
        if found and self.often(0.9):
            return self.one(found[-4:] if self.often(0.7) else found)  # type: ignore[no-any-return]
        if make is None:
            raise Rejected
        return make()

    def of(self, *dtypes: str, low: int = 0, high: int = 5, exact: bool = False) -> Value:
        """A value of one of these types and of rank low..high."""
        if self.half and "float16" in dtypes:
            dtypes = ("float16", *dtypes)
        fits = lambda v: v.dtype in dtypes and low <= v.rank <= high and (v.exact or not exact)  # noqa: E731
        return self.pick(fits, lambda: self.fresh(dtypes[0], self.some_shape(low, min(high, 4))))

    def partner(self, x: Value, exact: bool = False) -> Value:
        """A value of x's type that broadcasts with it."""

        def fits(v: Value) -> bool:
            if v.dtype != x.dtype or (exact and not v.exact):
                return False
            try:
                return int(np.prod(np.broadcast_shapes(v.shape, x.shape))) <= self.limit
            except ValueError:
                return False

        if self.often(0.5):
            return self.fresh(x.dtype, self.spread(x.shape))
        return self.pick(fits, lambda: self.fresh(x.dtype, self.spread(x.shape)))

    def finite(self, x: Value) -> Value:
        """Refuses infinities and NaN, where what becomes of them is no matter of the operator (docs/numbers.md)."""
        if x.dtype.startswith("float") and not np.isfinite(x.array).all():
            raise Rejected
        return x

    # -- nodes

    def emit(
        self, op: str, inputs: Sequence[Value | None], outputs: int = 1, *, exact: bool = False, domain: str = "",
        **attrs: Any,
    ) -> list[Value]:  # fmt: skip
        """Adds the node. exact: its results are not rounded where its inputs were not."""
        if op in self.doubted:
            raise Rejected
        names = [f"t{len(self.values) + k}" for k in range(outputs)]
        node = helper.make_node(
            op, ["" if v is None else v.name for v in inputs], names, domain=domain, **attrs
        )
        given = [v for v in inputs if v is not None]
        given += [self.values[n] for n in captured(node)]
        found = self.evaluate(node, given, [v.array for v in given])
        inexact = any(not v.exact for v in given)
        shaken = self.evaluate(node, given, [v.shadow for v in given]) if inexact else found
        made = []
        for name, array, shadow in zip(names, found, shaken, strict=True):
            if array.shape != shadow.shape or array.dtype != shadow.dtype:
                raise Rejected
            rounds = str(array.dtype) in ROUNDING and not exact
            made.append(
                Value(name, array, self.shaken(shadow) if rounds else shadow, not rounds and not inexact)
            )
        for v in made:
            self.judge(v)
        self.values.update((v.name, v) for v in made)
        self.nodes.append(node)
        return made

    def shaken(self, array: Any) -> Any:
        with np.errstate(all="ignore"):
            step = ROUNDING[str(array.dtype)] * self.numbers.choice([-1.0, 1.0], array.shape)
            return np.asarray(array * (1 + step), array.dtype)

    def judge(self, v: Value) -> None:
        if v.array.size > self.limit or v.rank > 6:
            raise Rejected
        if v.dtype in HUGE and not self.extremes and v.array.size:
            top = np.abs(v.array).max()
            if not top < HUGE[v.dtype] or not np.isfinite(v.shadow).all():
                raise Rejected
            apart = np.abs(v.array.astype(np.float64) - v.shadow.astype(np.float64)).max()
            if apart > 64 * ROUNDING[v.dtype] * max(float(top), 1e-3):
                raise Rejected  # rounding alone decides such a value

    def evaluate(self, node: Any, given: Sequence[Value], arrays: Sequence[Any]) -> list[Any]:
        names = list(dict.fromkeys(v.name for v in given))
        feeds = {v.name: a for v, a in zip(given, arrays, strict=True)}
        kinds = {n: helper.np_dtype_to_tensor_dtype(feeds[n].dtype) for n in names}
        inputs = [helper.make_tensor_value_info(n, kinds[n], feeds[n].shape) for n in names]
        outputs = [helper.make_empty_tensor_value_info(n) for n in node.output]
        graph = helper.make_graph([node], "one", inputs, outputs)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        try:
            with np.errstate(all="ignore"):
                found = ReferenceEvaluator(model).run(None, feeds)
        except Exception as error:
            raise Rejected from error
        if any(not isinstance(a, np.ndarray | np.generic) or str(a.dtype) == "object" for a in found):
            raise Rejected
        return [np.asarray(a) for a in found]

    def case(self, extra: int = 1) -> Case:
        """What was built: outputs are the values nobody reads and a few others."""
        read = {name for node in self.nodes for name in (*node.input, *captured(node))}
        made = [name for node in self.nodes for name in node.output]
        outputs = [n for n in made if n not in read]
        rest = [n for n in made if n in read]
        outputs += self.chance.sample(rest, min(extra, len(rest))) if self.often(0.5) else []
        return Case(self.nodes, self.constants, self.values, outputs, self.opset, self.symbolic)
