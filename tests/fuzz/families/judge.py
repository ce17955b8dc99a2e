"""Holds a family's model, run by nnjit, against native onnxruntime: `judge(net)` -> Verdict.

Where they differ, onnxruntime is asked again without its graph transformations, which are not always right (a Pad with
zeros before a MaxPool becomes the pool's own pads).
A value may be off by `SHARE` of the largest of its tensor: sums in another order, polynomials of the same precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.fuzz.families.net import Net
from tests.support.single import native

SHARE = {"float32": 1e-4, "float16": 2e-2, "float64": 1e-9}
"""Of a tensor's largest element. Halves are summed in f32 here and rounded after each node there, or the other way."""

Run = Callable[[bytes, Mapping[str, Any]], tuple[Mapping[str, Any], list[dict[str, Any]]]]
"""Outputs, and where each node ran."""


@dataclass
class Verdict:
    """faults: what is wrong, as text; slow: operators that ran on the reference, with the reason."""

    faults: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    apart: float = 0.0


def on_wasm(model: bytes, feeds: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    from nnjit.runtime.local import LocalSession

    session = LocalSession(model)
    session.run(feeds)
    return session.run(feeds), session.placement()


def judge(net: Net, run: Run = on_wasm, share: float | None = None) -> Verdict:
    """share: instead of the type's own, for models whose values are rounded to a few levels."""
    model, verdict = net.bytes(), Verdict()
    found, placement = run(model, net.feeds)
    for row in placement:
        if row["backend"] == "reference":
            verdict.slow.append(f"{row['op']}: {row.get('reason', '')}")
    answers = [native(model, net.feeds)]
    for name in net.results:
        ours = np.asarray(found[name])
        fault, apart = differ(answers[0][name], ours, share)
        if fault:
            answers[1:] = answers[1:] or [native(model, net.feeds, optimised=False)]
            fault, apart = differ(answers[1][name], ours, share)
        verdict.apart = max(verdict.apart, apart)
        if fault:
            verdict.faults.append(f"{name}: {fault}")
    return verdict


def differ(theirs: Any, ours: Any, share: float | None = None) -> tuple[str, float]:
    """What is wrong ('' if nothing), and the largest difference as a share of the largest element."""
    if theirs.shape != ours.shape or theirs.dtype != ours.dtype:
        return f"{ours.dtype}{list(ours.shape)}, not {theirs.dtype}{list(theirs.shape)}", 0.0
    if theirs.dtype.kind != "f":
        wrong = int((theirs != ours).sum())
        return (f"{wrong} of {theirs.size} differ" if wrong else ""), 0.0
    a, b = theirs.astype(np.float64), ours.astype(np.float64)
    odd = ~np.isfinite(a)
    if (odd != ~np.isfinite(b)).any() or not ((a[odd] == b[odd]) | (np.isnan(a[odd]) & np.isnan(b[odd]))).all():
        return f"infinite or no numbers at other places: {int(odd.sum())}, {int((~np.isfinite(b)).sum())}", 0.0
    if odd.all():
        return "", 0.0
    apart = float(np.abs(a - b)[~odd].max() / max(np.abs(a[~odd]).max(), 1e-30))
    limit = share or SHARE[str(theirs.dtype)]
    return (f"off by {apart:.2e} of the largest" if apart > limit else ""), apart
