"""A Constant node in any of its forms → Const."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from ..errors import InvalidGraph
from ..graph.const import Const
from ..graph.dtypes import Array
from .messages import AnyNode, Tensor
from .tensors import Files, tensor_const


def constant_of(proto: AnyNode, attrs: dict[str, Any], files: Files) -> Const:
    """`attrs` holds exactly one of value, sparse_value, value_int(s), value_float(s), value_string(s)."""
    if len(attrs) != 1:
        raise InvalidGraph(
            f"Constant {proto.name!r} has {len(attrs)} values, it must have one",
            hint="the model is damaged: export it again",
            node=proto.name,
            op="Constant",
        )
    ((kind, value),) = attrs.items()
    if isinstance(value, (onnx.TensorProto, Tensor)):
        return tensor_const(value, files)
    if isinstance(value, np.ndarray):  # sparse_value, or a tensor that a function's caller gave
        return Const.of(value)
    if kind in ("value_int", "value_ints"):
        return Const.of(np.array(value, np.int64))
    if kind in ("value_float", "value_floats"):
        return Const.of(np.array(value, np.float32))
    strings: Array = np.array(value, object)
    return Const.of(strings)
