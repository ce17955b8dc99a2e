"""Operators for onnx.reference, where its own implementations (onnx 1.23) fall short.

Loop stacks scalars to [n, 1] and cannot yield nothing; Scan knows no axes, no directions and no empty
sequence; If refuses an empty optional; Optional wraps its value in a list, which nothing unwraps;
GatherElements fails on axes of more than 64; Pad takes no negative pads; QuantizeLinear goes by i32;
NonMaxSuppression refuses scalars and compares box by box, in Python.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_pad import Pad_18 as OnnxPad
from onnx.reference.ops.op_quantize_linear import _CommonQuantizeLinear as OnnxQuantizeLinear

from . import dtypes, protos
from .quantising import quantized, spread


class _Op(OpRun):
    """An operator that takes and gives any Python value: OpRun.run would refuse None."""

    op_domain = ""

    def _run(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        raise NotImplementedError  # `run` is overridden as a whole


class _Control(_Op):
    """An operator that runs a body: it gets every outer value as `context`."""

    def need_context(self) -> bool:
        return True

    def run(
        self, *args: Any, linked_attributes: Any = None, context: Any = None, bindings: Any = None
    ) -> tuple[Any, ...]:
        return tuple(self.execute(list(args), dict(context or {}), linked_attributes))

    def execute(self, args: list[Any], context: dict[str, Any], attributes: Any) -> list[Any]:
        raise NotImplementedError  # what an operator does with its bodies is its own

    @staticmethod
    def body_run(body: Any, feeds: dict[str, Any], attributes: Any) -> list[Any]:
        return list(body.run(None, feeds, attributes=attributes))


class If(_Control):
    def execute(self, args: list[Any], context: dict[str, Any], attributes: Any) -> list[Any]:
        taken = bool(np.asarray(args[0]).reshape(-1)[0])
        body = self.then_branch if taken else self.else_branch  # type: ignore[attr-defined]
        return self.body_run(body, context, attributes)


class Loop(_Control):
    def execute(self, args: list[Any], context: dict[str, Any], attributes: Any) -> list[Any]:
        body = self.body  # type: ignore[attr-defined]
        trips = None if args[0] is None else int(np.asarray(args[0]).reshape(-1)[0])
        going = (
            args[1] is None if len(args) < 2 or args[1] is None else bool(np.asarray(args[1]).reshape(-1)[0])
        )
        carried = args[2:]
        scanned: list[list[Any]] = [[] for _ in body.output_names[1 + len(carried) :]]
        step = 0
        while going and (trips is None or step < trips):
            inputs = [np.array(step, np.int64), np.array(going), *carried]
            found = self.body_run(
                body, {**context, **dict(zip(body.input_names, inputs, strict=False))}, attributes
            )
            going = bool(np.asarray(found[0]).reshape(-1)[0])
            carried = found[1 : 1 + len(carried)]
            for rows, row in zip(scanned, found[1 + len(carried) :], strict=True):
                rows.append(row)
            step += 1
        return [*carried, *(_stack(rows, 0, body, 1 + len(carried) + i) for i, rows in enumerate(scanned))]


class Scan(_Control):
    def execute(self, args: list[Any], context: dict[str, Any], attributes: Any) -> list[Any]:
        body, count = self.body, self.num_scan_inputs  # type: ignore[attr-defined]
        states, sequences = args[: len(args) - count], args[len(args) - count :]
        outs = len(body.output_names) - len(states)
        in_axes, in_back = self._each("scan_input_axes", count), self._each("scan_input_directions", count)
        out_axes, out_back = self._each("scan_output_axes", outs), self._each("scan_output_directions", outs)
        sequences = [np.moveaxis(s, axis, 0) for s, axis in zip(sequences, in_axes, strict=True)]
        sequences = [s[::-1] if back else s for s, back in zip(sequences, in_back, strict=True)]
        scanned: list[list[Any]] = [[] for _ in range(outs)]
        for step in range(len(sequences[0])):
            inputs = [*states, *(s[step] for s in sequences)]
            found = self.body_run(
                body, {**context, **dict(zip(body.input_names, inputs, strict=True))}, attributes
            )
            states = found[: len(states)]
            for rows, row in zip(scanned, found[len(states) :], strict=True):
                rows.append(row)
        results = list(states)
        for i, rows in enumerate(scanned):
            rows = rows[::-1] if out_back[i] else rows
            results.append(_stack(rows, out_axes[i], body, len(states) + i))
        return results

    def _each(self, name: str, count: int) -> list[int]:
        given = list(getattr(self, name, None) or [])
        return [int(v) for v in given] + [0] * (count - len(given))


def _stack(rows: list[Any], axis: int, body: Any, output: int) -> Any:
    if rows:
        return np.stack([np.asarray(r) for r in rows], axis)
    # No step was made: the body's declared output says what an empty result looks like.
    dtype, dims = protos.type_of(body.output_types[output])
    shape = [d if isinstance(d, int) else 0 for d in dims or ()]
    shape.insert(axis if axis >= 0 else len(shape) + 1 + axis, 0)
    return np.zeros(shape, dtypes.NUMPY.get(dtype, np.dtype(np.float32)))


class Optional(_Op):
    """The value itself, or None."""

    def run(
        self, *args: Any, linked_attributes: Any = None, context: Any = None, bindings: Any = None
    ) -> tuple[Any, ...]:
        return (args[0] if args else None,)


class GatherElements(_Op):
    """out[i, j] = data[index[i, j], j] (axis 0)"""

    def run(
        self, *args: Any, linked_attributes: Any = None, context: Any = None, bindings: Any = None
    ) -> tuple[Any, ...]:
        data, indices = args
        axis = self.axis % data.ndim  # type: ignore[attr-defined]
        place = list(np.ogrid[tuple(slice(d) for d in indices.shape)])
        place[axis] = indices
        return (np.asarray(data[tuple(place)]),)


class Pad(OnnxPad):
    """As onnx.reference's, and with negative pads, which cut off."""

    op_domain = ""

    def _run(
        self, data: Any, pads: Any, value: Any = None, axes: Any = None, mode: Any = None
    ) -> tuple[Any, ...]:
        axes = range(data.ndim) if axes is None else [int(a) % data.ndim for a in axes]
        count, taken = len(axes), [slice(None)] * data.ndim
        for i, axis in enumerate(axes):
            begin, end = min(int(pads[i]), 0), min(int(pads[i + count]), 0)
            taken[axis] = slice(-begin, data.shape[axis] + end)
        run: Any = super()._run
        found: tuple[Any, ...] = run(data[tuple(taken)], np.maximum(pads, 0), value, np.array(axes), mode)
        return found


class QuantizeLinear(OnnxQuantizeLinear):
    """As onnx.reference's, and right past 2^31 steps, where that one's answer is the processor's."""

    op_domain = ""

    def _run(self, *inputs: Any, **attrs: Any) -> tuple[Any, ...]:
        x, y_scale, zero_point = (*inputs, None)[:3]
        given = {name: value for name, value in attrs.items() if value is not None}
        to = dtypes.from_numpy(zero_point.dtype) if zero_point is not None else None
        to = to or dtypes.FROM_ONNX.get(given.get("output_dtype", 0), "u8")
        if to not in ("i8", "u8", "i16", "u16"):
            run: Any = super()._run
            found: tuple[Any, ...] = run(x, y_scale, zero_point, **given)
            return found
        scaled = x.astype(np.float32) / spread(y_scale.astype(np.float32), x.shape, given)
        shift = 0 if zero_point is None else spread(zero_point, x.shape, given)
        return (quantized(scaled, shift, to).astype(dtypes.NUMPY[to]),)


class NonMaxSuppression(_Op):
    """Boxes by falling score, of equal ones the first one first, without those that overlap one that is kept."""

    def run(self, *args: Any, **_: Any) -> tuple[Any, ...]:
        boxes, scores, most, overlap, least = (*args, None, None, None)[:5]
        count, limit, bound = (
            0 if v is None else np.asarray(v).reshape(-1)[0] for v in (most, overlap, least)
        )
        corners = _corners(np.asarray(boxes), bool(getattr(self, "center_point_box", None)))
        found = [
            (b, c, i)
            for b in range(scores.shape[0])
            for c in range(scores.shape[1])
            for i in _kept(corners[b], scores[b, c], int(count), limit, None if least is None else bound)
        ]
        return (np.array(found, np.int64).reshape(-1, 3),)


def _corners(boxes: Any, centred: bool) -> Any:
    """[..., (low a, low b, high a, high b)] of two corners in any order, or of (x, y, width, height)."""
    if centred:
        middle, half = boxes[..., :2], boxes[..., 2:] / 2
        return np.concatenate([middle - half, middle + half], -1)
    a, b = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([np.minimum(a, b), np.maximum(a, b)], -1)


def _kept(corners: Any, scores: Any, most: int, limit: Any, bound: Any) -> list[int]:
    left = np.argsort(-scores, kind="stable")
    if bound is not None:
        left = left[scores[left] > bound]
    sizes = corners[:, 2:] - corners[:, :2]
    area = sizes[:, 0] * sizes[:, 1]
    kept: list[int] = []
    while len(kept) < most and len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        low = np.maximum(corners[best, :2], corners[left, :2])
        shared = np.maximum(np.minimum(corners[best, 2:], corners[left, 2:]) - low, 0).prod(-1)
        both = area[best] + area[left] - shared
        solid = (area[best] > 0) & (area[left] > 0) & (both > 0)
        left = left[~(solid & (shared / np.where(both > 0, both, 1) > limit))]
    return kept


class ScaledDotProductAttention(_Op):
    """See passes/attention.py: softmax(cap(scale q k') + bias) v."""

    op_domain = "nnjit"

    def run(self, *args: Any, **_: Any) -> tuple[Any, ...]:
        q, k, v = (np.asarray(a) for a in args[:3])
        wide: Any = np.float64 if q.dtype == np.float64 else np.float32
        repeat = q.shape[1] // k.shape[1]
        keys, values = (np.repeat(a.astype(wide), repeat, axis=1) for a in (k, v))
        s = q.astype(wide) @ np.swapaxes(keys, -1, -2) * wide(self.scale)  # type: ignore[attr-defined]
        cap = wide(getattr(self, "softcap", None) or 0)
        s = np.tanh(s / cap) * cap if cap else s
        if len(args) > 3:
            bias, replace = np.asarray(args[3]).astype(wide), getattr(self, "replace", None)
            s = np.where(bias <= replace, bias, s + bias) if replace is not None else s + bias
            s = np.where(args[4], s, bias) if len(args) > 4 else s
        offset = getattr(self, "causal_offset", None)
        if offset is not None:
            m, n = s.shape[-2:]
            s = np.where(np.arange(n) <= np.arange(m)[:, None] + offset, s, -np.inf)
        with np.errstate(all="ignore"):
            e = np.exp(s - s.max(-1, keepdims=True))
            p = e / e.sum(-1, keepdims=True)
        if self.empty == "zero":  # type: ignore[attr-defined]
            p = np.where(np.isneginf(s.max(-1, keepdims=True)), 0, p)
        elif self.empty == "guarded":  # type: ignore[attr-defined]
            p = np.where(np.isnan(p), 0, p)
        return ((p @ values).astype(q.dtype),)


class MatMulNBits(_Op):
    """See extensions/nbits.py. Codes of `bits` lie lowest bits first, zero points too, each column from a new byte."""

    op_domain = "com.microsoft"

    def run(self, *args: Any, **_: Any) -> tuple[Any, ...]:
        a, b, scales, zero, order, bias = (*args, None, None, None)[:6]
        k, n, block = self.K, self.N, self.block_size  # type: ignore[attr-defined]
        bits = int(getattr(self, "bits", None) or 4)
        blocks = -(-k // block)
        codes = _unpacked(np.asarray(b).reshape(n, -1), bits)[:, : blocks * block].reshape(n, blocks, block)
        middle: Any = np.float32(1 << (bits - 1))
        if zero is not None:
            rows = np.asarray(zero).reshape(n, -1)
            middle = (_unpacked(rows, bits)[:, :blocks] if rows.dtype == np.uint8 else rows)[..., None]
        scale = np.asarray(scales).reshape(n, blocks, 1).astype(np.float32)
        if order is None:
            w = ((codes - np.asarray(middle, np.float32)) * scale).reshape(n, -1)[:, :k]
        else:  # a block number for each row of B, not for each run of them
            place = np.asarray(order)[:k]
            middle = np.broadcast_to(middle, (n, blocks, 1))[:, place, 0].astype(np.float32)
            w = (codes.reshape(n, -1)[:, :k] - middle) * scale[:, place, 0]
        y = np.asarray(a).astype(np.float32) @ w.T.astype(np.float32)
        y = y if bias is None else y + np.asarray(bias).astype(np.float32)
        return (y.astype(np.asarray(a).dtype),)


def _unpacked(rows: Any, bits: int) -> Any:
    """[n, bytes] -> [n, codes] as f32"""
    parts = [(rows >> shift) & ((1 << bits) - 1) for shift in range(0, 8, bits)]
    return np.stack(parts, -1).reshape(len(rows), -1).astype(np.float32)


NEW_OPS: list[type[OpRun]] = [
    MatMulNBits,
    ScaledDotProductAttention,
    GatherElements,
    NonMaxSuppression,
    Pad,
    QuantizeLinear,
    If,
    Loop,
    Scan,
    Optional,
]
