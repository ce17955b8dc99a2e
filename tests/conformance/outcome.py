"""What came of one case: passed, or not and why; and where its nodes ran. Written to and read from JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance.cases import Case

STATUSES = ("pass", "wrong", "error", "timeout", "crash")


@dataclass
class Outcome:
    """status: pass; wrong: an output differs; error: refused or threw; timeout; crash: the page is gone."""

    id: str
    status: str
    reason: str = ""
    code: str = ""
    ms: float = 0.0
    kernels: dict[str, int] = field(default_factory=dict)  # operator -> nodes that ran on a kernel
    reference: dict[str, int] = field(default_factory=dict)  # operator -> nodes that ran on the reference
    folded: dict[str, int] = field(
        default_factory=dict
    )  # operator -> nodes computed or removed while compiling


def judge(case: Case, outputs: list[list[Any]], **known: Any) -> Outcome:
    """Compares the outputs of each data set with what the case expects."""
    try:
        for expected, got in zip(case.data_sets(), outputs, strict=True):
            case.check(expected, got)
    except (AssertionError, TypeError, ValueError) as error:
        return Outcome(case.id, "wrong", summary(error), **known)
    return Outcome(case.id, "pass", **known)


def placed(placement: Any) -> dict[str, dict[str, int]]:
    """Counts operators by where they ran, out of session.placement(): rows {op, backend, …}."""
    out: dict[str, dict[str, int]] = {"kernels": {}, "reference": {}, "folded": {}}
    side_of = {"wasm": "kernels", "webgpu": "kernels", "reference": "reference"}
    for row in placement or []:
        side = out[side_of.get(row["backend"], "folded")]
        side[row["op"]] = side.get(row["op"], 0) + 1
    return out


def summary(error: BaseException) -> str:
    """The lines of numpy's or the compiler's message that say something, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("ACTUAL", "DESIRED", "array(", "x:", "y:", "["))]
    text = "; ".join(kept or lines) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def write(path: Path, about: dict[str, Any], outcomes: Iterable[Outcome]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({k: v for k, v in asdict(o).items() if v or k == "ms"}) for o in outcomes]
    text = f'{{"about": {json.dumps(about)},\n"cases": [\n' + ",\n".join(rows) + "\n]}\n"
    path.write_text(text)


def read(path: Path) -> tuple[dict[str, Any], list[Outcome]]:
    data = json.loads(path.read_text())
    return data["about"], [Outcome(**row) for row in data["cases"]]


def report(outcomes: list[Outcome], say: Callable[[str], None] = print, limit: int = 40) -> None:
    """Counts, then the commonest reasons with one case each."""
    counts = Counter(o.status for o in outcomes)
    kernel_only = sum(o.status == "pass" and not o.reference for o in outcomes)
    say(
        f"{counts['pass']} of {len(outcomes)} passed ({kernel_only} of them on kernels alone); "
        + ", ".join(f"{counts[s]} {s}" for s in STATUSES[1:] if counts[s])
    )
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.status != "pass":
            groups.setdefault(f"{outcome.status} {outcome.code}: {outcome.reason[:100]}", []).append(outcome)
    for key, members in sorted(groups.items(), key=lambda item: -len(item[1]))[:limit]:
        say(f"  {len(members):4d}  {key}   e.g. {members[0].id}")
    if len(groups) > limit:
        say(f"  and {len(groups) - limit} more reasons, in the results file")
