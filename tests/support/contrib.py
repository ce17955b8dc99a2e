"""Models of one operator of com.microsoft (or another domain), run by nnjit's kernels and by native onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

Array = Any
MICROSOFT = "com.microsoft"


@dataclass
class Case:
    """A node: `inputs` in order (None for an absent one), those named in `fed` being the model's inputs, the rest
    its initializers; `outputs` are element types, None for an absent one."""

    op: str
    inputs: Sequence[Array | None]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    fed: Sequence[int] = (0,)
    outputs: Sequence[Any] = (np.float32,)
    domain: str = MICROSOFT
    opset: int = 17

    def name(self, index: int) -> str:
        return "" if self.inputs[index] is None else f"x{index}"

    def model(self) -> bytes:
        given = {self.name(i): np.asarray(a) for i, a in enumerate(self.inputs) if a is not None}
        fed = [self.name(i) for i in self.fed if self.inputs[i] is not None]
        made = [f"y{i}" if t is not None else "" for i, t in enumerate(self.outputs)]
        node = helper.make_node(
            self.op, [self.name(i) for i in range(len(self.inputs))], made, "node", domain=self.domain,
            **self.attrs,
        )  # fmt: skip
        graph = helper.make_graph(
            [node], self.op, [_info(n, given[n].dtype, given[n].shape) for n in fed],
            [_info(f"y{i}", t, None) for i, t in enumerate(self.outputs) if t is not None],
            [numpy_helper.from_array(a, n) for n, a in given.items() if n not in fed],
        )  # fmt: skip
        imports = [helper.make_opsetid("", self.opset)]
        imports += [helper.make_opsetid(self.domain, 1)] if self.domain else []
        model = helper.make_model(graph, opset_imports=imports, ir_version=10)
        data: bytes = model.SerializeToString()
        return data

    def feeds(self) -> dict[str, Array]:
        return {self.name(i): np.asarray(self.inputs[i]) for i in self.fed if self.inputs[i] is not None}


def _info(name: str, dtype: Any, shape: Sequence[int] | None) -> Any:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def codes(rng: np.random.Generator, dtype: Any, *shape: int) -> Array:
    """Bytes of every value."""
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)


def zero_point(rng: np.random.Generator, dtype: Any) -> Array:
    """A zero point somewhere inside."""
    limits = np.iinfo(dtype)
    return np.array(rng.integers(limits.min + 20, limits.max - 20), dtype)


def scale(rng: np.random.Generator, *shape: int) -> Array:
    return np.asarray(0.01 + 0.03 * rng.random(shape), np.float32)


def agree(found: Array, wanted: Array, rtol: float = 1e-4, atol: float = 1e-4, off: float = 0.02) -> None:
    """Equal shapes and types; integers within 1, and all but a share `off` of them (ties, other roundings) equal."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape and found.dtype == wanted.dtype, (found.shape, wanted.shape)
    if wanted.dtype.kind in "iu":
        apart = np.abs(found.astype(np.int64) - wanted.astype(np.int64))
        assert apart.max(initial=0) <= 1, (
            f"{apart.max()} steps apart: {found.reshape(-1)[:9]} {wanted.reshape(-1)[:9]}"
        )
        assert (apart > 0).sum() <= max(1, off * apart.size), f"{(apart > 0).mean():.1%} differ by a step"
    elif wanted.dtype.kind == "f":
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=atol)
    else:
        np.testing.assert_array_equal(found, wanted)
