"""Holds a model, run by nnjit, against native onnxruntime: `judge(model, feeds)` -> Verdict.

A value may be off by a share of the largest of its tensor: sums in another order, polynomials of the same precision.
Where they differ, onnxruntime is asked again without its graph transformations, which are not always right (a Pad with
zeros before a MaxPool becomes the pool's own pads).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.support.single import native

SINGLE, HALF, BYTE = 1e-4, 2e-2, 8e-2
"""Of a tensor's largest element. Halves are summed in f32 here and rounded after each node there, or the other way;
a byte that rounds to the next level somewhere moves what comes after it."""

Run = Callable[[bytes, Mapping[str, Any]], tuple[Mapping[str, Any], list[dict[str, Any]]]]
"""Outputs, and where each node ran."""


@dataclass
class Verdict:
    """faults: what is wrong, as text; slow: operators that ran on the reference, with the reason."""

    faults: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    apart: float = 0.0


def on_wasm(model: bytes, feeds: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """On CPython, twice: the second run finds memory as the first has left it."""
    from nnjit.runtime.local import LocalSession

    session = LocalSession(model)
    session.run(feeds)
    return session.run(feeds), session.placement()


def judge(model: bytes, feeds: Mapping[str, Any], share: float = SINGLE, run: Run = on_wasm) -> Verdict:
    """share: how far a value may be off, of the largest of its tensor."""
    verdict = Verdict()
    answers = [native(model, feeds)]
    found, placement = run(model, feeds)
    for row in placement:
        if row["backend"] == "reference":
            verdict.slow.append(f"{row['op']}: {row.get('reason', '')}")
    for name in answers[0]:
        ours = np.asarray(found[name])
        fault, apart = differ(answers[0][name], ours, share)
        if fault or apart > SINGLE:
            answers[1:] = answers[1:] or [native(model, feeds, optimised=False)]
            other = differ(answers[1][name], ours, share)
            fault, apart = min((fault, apart), other)
        verdict.apart = max(verdict.apart, apart)
        if fault:
            verdict.faults.append(f"{name}: {fault}")
    return verdict


def differ(theirs: Any, ours: Any, share: float) -> tuple[str, float]:
    """What is wrong ('' if nothing), and the largest difference as a share of the largest element. Integers of models
    that round elsewhere (share above 1e-2) may differ in a few places: an ArgMax of two that are nearly alike."""
    if theirs.shape != ours.shape or theirs.dtype != ours.dtype:
        return f"{ours.dtype}{list(ours.shape)}, not {theirs.dtype}{list(theirs.shape)}", 0.0
    if theirs.dtype.kind != "f":
        wrong = int((theirs != ours).sum())
        few = share > 1e-2 and wrong <= 1 + theirs.size // 10
        return (f"{wrong} of {theirs.size} differ" if wrong and not few else ""), 0.0
    a, b = theirs.astype(np.float64), ours.astype(np.float64)
    odd = ~np.isfinite(a)
    if (odd != ~np.isfinite(b)).any() or not (
        (a[odd] == b[odd]) | (np.isnan(a[odd]) & np.isnan(b[odd]))
    ).all():
        return (
            f"infinite or no numbers at other places: {int(odd.sum())}, {int((~np.isfinite(b)).sum())}",
            0.0,
        )
    if odd.all():
        return "", 0.0
    apart = float(np.abs(a - b)[~odd].max() / max(np.abs(a[~odd]).max(), 1e-30))
    return (f"off by {apart:.2e} of the largest" if apart > share else ""), apart
