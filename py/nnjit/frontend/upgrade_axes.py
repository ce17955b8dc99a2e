"""Rewriters for attributes that became inputs: axes, pads, bounds, splits, k."""

from __future__ import annotations

import numpy as np

from .draft import Draft, upgrades

_REDUCE = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")


def _to_input(draft: Draft, attribute: str, index: int) -> None:
    if attribute in draft.attrs:
        draft.set_input(index, draft.const(draft.attrs.pop(attribute)))


@upgrades("Squeeze", "Unsqueeze", "ReduceSum", until=13)
@upgrades(*("Reduce" + name for name in _REDUCE), until=18)
def axes_to_input(draft: Draft) -> None:
    """ReduceMean(x) axes=[1] → ReduceMean(x, [1])"""
    _to_input(draft, "axes", 1)


@upgrades("Slice", until=10)
def slice_to_inputs(draft: Draft) -> None:
    """Slice(x) starts ends axes → Slice(x, starts, ends, axes)"""
    for i, attribute in enumerate(("starts", "ends", "axes"), start=1):
        _to_input(draft, attribute, i)


@upgrades("Split", until=13)
def split_to_input(draft: Draft) -> None:
    """Split(x) split=[2,3] → Split(x, [2,3])"""
    _to_input(draft, "split", 1)


@upgrades("Split", until=18)
def split_num_outputs(draft: Draft) -> None:
    """Split(x) into equal parts → the same with num_outputs, which opset 18 wants"""
    if draft.input(1) is None:
        draft.attrs["num_outputs"] = len(draft.outputs)


@upgrades("TopK", until=10)
def topk_to_input(draft: Draft) -> None:
    """TopK(x) k=5 → TopK(x, [5])"""
    draft.set_input(1, draft.const([draft.attrs.pop("k")]))


@upgrades("Clip", until=11)
def clip_to_inputs(draft: Draft) -> None:
    """Clip(x) min=0 max=6 → Clip(x, 0, 6), the bounds in x's own type"""
    for i, attribute in enumerate(("min", "max"), start=1):
        if attribute in draft.attrs:
            bound = draft.const(draft.attrs.pop(attribute), np.float32)
            draft.set_input(i, draft.before("CastLike", [bound, draft.x()]))


@upgrades("Pad", until=11)
def pad_to_inputs(draft: Draft) -> None:
    """Pad(x) pads=[…] value=v → Pad(x, […], v)"""
    pads = draft.attrs.pop("pads", None)
    draft.set_input(1, draft.const(pads if pads is not None else draft.attrs.pop("paddings")))
    value = draft.attrs.pop("value", 0.0)
    if value:
        fill = draft.const(value, np.float32)
        draft.set_input(2, draft.before("CastLike", [fill, draft.x()]))


@upgrades("DFT", until=20)
def dft_axis_to_input(draft: Draft) -> None:
    """DFT(x, length) axis=1 → DFT(x, length, axis); the default was 1 and is -2 now"""
    draft.set_input(2, draft.const(draft.attrs.pop("axis", 1)))
