"""Rewriters for opsets 1 to 6: explicit broadcasting and attributes since gone.

Models that old are rare, but ONNX's own test data holds some hundred.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from ..graph.ir import Value
from .draft import Draft, upgrades


def _ones(draft: Draft, count: Value) -> Value:
    """A vector of `count` ones (int64), count a computed scalar."""
    length = draft.before("Unsqueeze", [draft.before("Max", [count, draft.const(0)]), draft.const([0])])
    return draft.before("ConstantOfShape", [length], value=np.ones(1, np.int64))


def _rank(draft: Draft, value: Value) -> Value:
    return draft.before("Size", [draft.before("Shape", [value])])


@upgrades("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Less", "Greater", until=7)
def broadcast_axis(draft: Draft) -> None:
    """Add(a, b) broadcast=1 axis=k → Add(a, b with as many 1s appended as a has axes behind b's)"""
    broadcast, axis = draft.attrs.pop("broadcast", 0), draft.attrs.pop("axis", None)
    if not broadcast or axis is None:
        return
    a, b = draft.x(0), draft.x(1)
    start = draft.const(axis)
    if axis < 0:
        start = draft.before("Add", [_rank(draft, a), start])
    tail = draft.before("Sub", [draft.before("Sub", [_rank(draft, a), start]), _rank(draft, b)])
    shape = draft.before("Concat", [draft.before("Shape", [b]), _ones(draft, tail)], axis=0)
    draft.inputs[1] = draft.before("Reshape", [b, shape])


@upgrades("PRelu", until=7)
def prelu_channel(draft: Draft) -> None:
    """PRelu(x[N,C,…], slope[C]) → PRelu(x, slope[C,1,…])"""
    tail = draft.before("Sub", [_rank(draft, draft.x()), draft.const(2)])
    shape = draft.before("Concat", [draft.const([-1]), _ones(draft, tail)], axis=0)
    draft.inputs[1] = draft.before("Reshape", [draft.x(1), shape])


@upgrades("Gemm", until=7)
def gemm_broadcast(draft: Draft) -> None:
    """broadcast= is implied since"""
    draft.attrs.pop("broadcast", None)


@upgrades("Reshape", until=5)
def reshape_to_input(draft: Draft) -> None:
    """Reshape(x) shape=[…] → Reshape(x, […])"""
    draft.set_input(1, draft.const(draft.attrs.pop("shape", [])))


@upgrades("Cast", until=6)
def cast_type_name(draft: Draft) -> None:
    """to='FLOAT' → to=1"""
    if isinstance(draft.attrs["to"], str):
        draft.attrs["to"] = TensorProto.DataType.Value(draft.attrs["to"].upper())


@upgrades("Concat", until=4)
def concat_axis(draft: Draft) -> None:
    """no axis → axis=1"""
    draft.attrs.setdefault("axis", 1)


@upgrades("Selu", until=6)
def selu_defaults(draft: Draft) -> None:
    """opset 1 had rounded defaults"""
    draft.attrs.setdefault("alpha", 1.6732)
    draft.attrs.setdefault("gamma", 1.0507)


@upgrades("Tile", until=6)
def tile_repeats(draft: Draft) -> None:
    """Tile-1(x, tiles, axis) → Tile(x, repeats), repeats being tiles at `axis` and 1 elsewhere"""
    tiles, axis = draft.x(1), draft.x(2)
    rank = _rank(draft, draft.x())
    places = draft.before("Range", [draft.const(0), rank, draft.const(1)])
    here = draft.before("Equal", [places, draft.before("Cast", [axis], to=int(TensorProto.INT64))])
    count = draft.before("Cast", [tiles], to=int(TensorProto.INT64))
    draft.inputs = [draft.x(), draft.before("Where", [here, count, draft.const(1)])]


@upgrades("LSTM", "GRU", "RNN", until=7)
def rnn_output_sequence(draft: Draft) -> None:
    """output_sequence said what the outputs' presence says"""
    draft.attrs.pop("output_sequence", None)
