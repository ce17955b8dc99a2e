"""Runs a case by nnjit on CPython and judges what it answers: None, or the Fault it shows.

What onnx.reference says of each node is the truth, up to the rounding the shadows tell of. Where nnjit differs from it,
native onnxruntime is asked too: what nnjit and onnxruntime agree on is no fault (there the two peers differ).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.fuzz.builder import ROUNDING, Case

Run = Callable[[bytes, Mapping[str, Any]], Mapping[str, Any]]
MARGIN = 24.0
"""Roundings of a value's own size that a step may be off by: sums in another order, polynomials."""

TOP = {"float16": 3e4, "float32": 1e30, "float64": 1e290}


@dataclass(frozen=True)
class Fault:
    """kind: 'raises', 'shape', 'type' or 'values'; shrinking keeps it."""

    kind: str
    text: str
    peers_differ: bool = False


def compare(case: Case, name: str, found: Any, expected: Any = None) -> Fault | None:
    """Whether `found` is the value called `name` (or `expected` instead, with that value's tolerance)."""
    value = case.values[name]
    wanted = value.array if expected is None else np.asarray(expected)
    found = np.asarray(found)
    if found.shape != wanted.shape or wanted.shape != value.array.shape:
        return Fault("shape", f"{name}: {found.shape}, not {wanted.shape}")
    if found.dtype != wanted.dtype:
        return Fault("type", f"{name}: {found.dtype}, not {wanted.dtype}")
    if not wanted.size:
        return None
    if value.dtype not in ROUNDING or value.exact:
        wrong = ~((found == wanted) | ((found != found) & (wanted != wanted)))
    else:
        with np.errstate(all="ignore"):
            a, s = wanted.astype(np.float64), value.shadow.astype(np.float64)
            step = ROUNDING[value.dtype]
            finite = np.isfinite(a) & np.isfinite(s)
            apart = np.abs(a - s)[finite].max() if finite.any() else 0.0
            size = np.abs(a)[finite].max() if finite.any() else 0.0
            room = MARGIN * (apart + step * np.abs(a) + step * 0.3 * size) + np.finfo(value.dtype).tiny
            off = np.abs(found.astype(np.float64) - a)
            wrong = ~((off <= room) | (found == wanted) | ((found != found) & (wanted != wanted)))
            wrong &= ~np.isfinite(a) | finite & (
                np.abs(a) < TOP[value.dtype]
            )  # rounding may overflow, or not
    if not wrong.any():
        return None
    k = int(np.flatnonzero(wrong.ravel())[0])
    detail = (
        f"{int(wrong.sum())} of {wrong.size}; first at {k}: {found.ravel()[k]!r}, not {wanted.ravel()[k]!r}"
    )
    return Fault("values", f"{name}: {detail}")


def on_wasm(model: bytes, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
    """Twice: the second run finds memory as the first has left it, and must answer the same to the bit."""
    from nnjit.runtime.local import LocalSession

    session = LocalSession(model)
    first, second = session.run(feeds), session.run(feeds)
    for name, array in first.items():
        if np.asarray(array).tobytes() != np.asarray(second[name]).tobytes():
            raise AssertionError(f"{name} differs in the second run")
    return first


def judge(case: Case, run: Run = on_wasm, ask: bool = True) -> Fault | None:
    """ask: whether onnxruntime is asked where the reference and nnjit differ."""
    data, feeds = case.model(), case.feeds()
    try:
        found = run(data, feeds)
        fault = next((f for n in case.outputs if (f := compare(case, n, found[n]))), None)
    except Exception as error:
        found, fault = {}, Fault("raises", f"{type(error).__name__}: {error}")
    if fault is None or not ask:
        return fault
    return asked(case, data, feeds, found, fault)


def asked(
    case: Case, data: bytes, feeds: Mapping[str, Any], found: Mapping[str, Any], fault: Fault
) -> Fault | None:
    from tests.support.single import native

    try:
        theirs = native(data, feeds)
    except Exception as error:
        refused = fault.kind == "raises"  # by both: the reference takes what is no valid model
        return Fault(fault.kind, f"{fault.text} (onnxruntime: {str(error)[:160]})", refused)
    if not found:
        return fault
    same = fault.kind == "shape" and all(np.shape(found[n]) == np.shape(theirs[n]) for n in case.outputs)
    if same or all(compare(case, n, found[n], theirs[n]) is None for n in case.outputs):
        return Fault(fault.kind, fault.text, peers_differ=True)
    agree = all(compare(case, n, theirs[n]) is None for n in case.outputs)
    return Fault(
        fault.kind,
        f"{fault.text} (onnxruntime {'agrees with the reference' if agree else 'differs from both'})",
    )
