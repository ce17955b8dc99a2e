"""How far a result is from the reference's: largest absolute and relative error, as plain data."""

from __future__ import annotations

from typing import Any

import numpy as np


def compare(got: Any, expected: Any) -> dict[str, Any]:
    """{equal, maxAbs, maxRel, at, note} for one output (an array, a list of arrays, or None).

    Errors are taken in float64 (complex: moduli); the relative one is |got - expected| / |expected| over
    elements whose expected value is not 0. NaN against NaN and inf against the same inf are equal. Where no
    number says it (another shape or length, a NaN on one side alone) both errors are None and `note` tells.
    """
    if isinstance(expected, (list, tuple)) or isinstance(got, (list, tuple)):
        return _sequences(got, expected)
    if expected is None or got is None:
        if expected is None and got is None:
            return _verdict(True, 0.0, 0.0)
        return _verdict(False, None, None, "only one side is empty")
    a, b = np.asarray(got), np.asarray(expected)
    if a.shape != b.shape:
        return _verdict(False, None, None, f"shape {list(a.shape)}, the reference gives {list(b.shape)}")
    if a.dtype.kind in "OUSV" or b.dtype.kind in "OUSV":
        return _exact(a, b)
    wide = np.complex128 if b.dtype.kind == "c" else np.float64
    return _numbers(a.astype(wide), b.astype(wide))


def _exact(a: Any, b: Any) -> dict[str, Any]:
    """Strings, and types that numpy only knows as bits."""
    differ = sum(x != y for x, y in zip(a.reshape(-1).tolist(), b.reshape(-1).tolist(), strict=True))
    if differ:
        return _verdict(False, None, None, f"{differ} of {a.size} elements differ")
    return _verdict(True, 0.0, 0.0)


def _numbers(a: Any, b: Any) -> dict[str, Any]:
    agree = (a == b) | (np.isnan(a) & np.isnan(b))
    if bool(agree.all()):
        return _verdict(True, 0.0, 0.0)
    one_sided = ~agree & ~(np.isfinite(a) & np.isfinite(b))
    if bool(one_sided.any()):
        note = f"{int(one_sided.sum())} of {a.size} elements are NaN or infinite on one side alone"
        return _verdict(False, None, None, note)
    difference = np.abs(np.where(agree, 0.0, a - b))
    sizes = np.abs(b)
    relative = np.divide(difference, sizes, out=np.zeros_like(difference), where=(sizes > 0) & ~agree)
    worst = [int(i) for i in np.unravel_index(int(np.argmax(difference)), difference.shape)]
    return _verdict(False, float(difference.max()), float(relative.max()), at=worst)


def _sequences(got: Any, expected: Any) -> dict[str, Any]:
    if not isinstance(got, (list, tuple)) or not isinstance(expected, (list, tuple)):
        return _verdict(False, None, None, "only one side is a sequence")
    if len(got) != len(expected):
        return _verdict(False, None, None, f"{len(got)} entries, the reference gives {len(expected)}")
    parts = [compare(g, e) for g, e in zip(got, expected, strict=True)]
    for part in parts:
        if part["maxAbs"] is None:
            return part
    equal = all(part["equal"] for part in parts)
    return _verdict(
        equal, max((p["maxAbs"] for p in parts), default=0.0), max((p["maxRel"] for p in parts), default=0.0)
    )


def _verdict(
    equal: bool, max_abs: float | None, max_rel: float | None, note: str = "", at: list[int] | None = None
) -> dict[str, Any]:
    return {"equal": equal, "maxAbs": max_abs, "maxRel": max_rel, "at": at, "note": note}
