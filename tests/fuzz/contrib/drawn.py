"""One random node of com.microsoft: its operands and attributes as a model, and what is wrong with its outputs.

`normal`, `one` and `chance` are what the functions that draw are written with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Rng = np.random.Generator
Array = Any


@dataclass
class Drawn:
    """One node: operands in order (None: absent), those fed and those constant, and how its outputs are compared."""

    op: str
    operands: dict[str, Array | None]
    outputs: Sequence[str]
    attrs: dict[str, Any] = field(default_factory=dict)
    constants: frozenset[str] = frozenset()
    domain: str = "com.microsoft"
    valid: Callable[[str, Array], Array] | None = None
    """The part of an output that onnxruntime defines."""
    tolerance: float = 2e-5

    @property
    def feeds(self) -> dict[str, Array]:
        return {k: v for k, v in self.operands.items() if v is not None and k not in self.constants}

    def model(self) -> bytes:
        names = [k if v is not None else "" for k, v in self.operands.items()]
        while names and not names[-1]:
            names.pop()
        node = helper.make_node(self.op, names, list(self.outputs), domain=self.domain, **self.attrs)
        given = [(k, v) for k, v in self.operands.items() if v is not None]
        inputs = [
            helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for k, v in given if k not in self.constants
        ]  # fmt: skip
        held = [numpy_helper.from_array(v, k) for k, v in given if k in self.constants]
        graph = helper.make_graph([node], self.op, inputs, [_output(o) for o in self.outputs if o], held)
        imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        data: bytes = helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()
        return data


def _output(name: str) -> onnx.ValueInfoProto:
    if name == "qk":  # its type follows from nothing
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    return onnx.ValueInfoProto(name=name)


def normal(rng: Rng, *shape: int) -> Array:
    return rng.standard_normal(shape, np.float32)


def one(rng: Rng, *choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def chance(rng: Rng, part: float = 0.5) -> bool:
    return bool(rng.random() < part)


def fault(case: Drawn, found: Mapping[str, Array], wanted: Mapping[str, Array]) -> str | None:
    """What is wrong with the outputs, None if nothing is."""
    for name in (o for o in case.outputs if o):
        a, b = np.asarray(found[name]), np.asarray(wanted[name])
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{name}: {a.dtype}{a.shape}, not {b.dtype}{b.shape}"
        if case.valid is not None:
            a, b = case.valid(name, a), case.valid(name, b)
        room = case.tolerance * (1 + np.abs(b.astype(np.float64)))
        off = np.abs(a.astype(np.float64) - b.astype(np.float64))
        if not np.all(off <= room):
            return f"{name}: off by {np.nanmax(off):.3g}, {np.sum(~(off <= room))} of {a.size}"
    return None
