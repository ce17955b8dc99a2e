"""Where a run's time goes: each model's steps by kind, beside the multiply-add peak; the table in docs/kernels.md.

    python3 serve.py bench --where roberta-base,gpt2 --threads 1

Kinds are read off what a step computes, not off its name: a product sums products of two reads, attention has two of
those, a norm keeps what it found of a row for a second pass, a copy computes nothing. `between` is run() less its
steps: calls, copies of inputs and outputs, fresh pages, barriers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.steps import profile
from tests.bench.tables.products import DOCS
from tests.bench.tables.report import write_section
from tests.support.browser import Lab

KINDS = ("products", "attention", "norms", "copies", "rest")
OPERAND = re.compile(r"\$\d+")
COPY = re.compile(r"\$\d+\[[^\]]*\] = (?:add\()?\$\d+\[[^\]]*\](?: over [^=]*)?$")


def kind_of(spec: str) -> str:
    """A step's kind, from its spec as text."""
    lines = [line.strip() for line in spec.splitlines()[1:]]
    sums = [line.partition(" of ")[2] for line in lines if line.startswith("acc = ")]
    products = [s for s in sums if s.startswith(("mul(", "dot(")) and len(set(OPERAND.findall(s))) >= 2]
    if len(products) >= 2:
        return "attention"
    if products and len(sums) == 1:
        return "products"
    if len(sums) >= 2 or (sums and any(line.startswith("%") for line in lines)):
        return "norms"
    stored = [line for line in lines if line.startswith("$") and " = " in line]
    return "copies" if not sums and stored and all(COPY.match(line) for line in stored) else "rest"


@dataclass
class Part:
    ms: float = 0.0
    gflop: float = 0.0


@dataclass
class Run:
    """A model at one thread count; ms, the peak in GFLOP/s. `run`: outputs given again, the best; `fresh`: new ones."""

    model: str
    threads: int
    peak: float
    run: float
    fresh: float
    parts: dict[str, Part] = field(default_factory=lambda: {kind: Part() for kind in KINDS})

    @property
    def steps(self) -> float:
        return sum(p.ms for p in self.parts.values())

    def row(self) -> str:
        gflop = sum(p.gflop for p in self.parts.values())
        cells = [
            f"{self.model}, {self.threads}",
            f"{self.fresh:.1f}, {self.run:.1f}",
            f"{self.steps:.1f}",
            f"**{100 * gflop / self.run * 1e3 / self.peak:.0f}%**",
        ]
        for kind in KINDS:
            part = self.parts[kind]
            speed = (
                f" at {100 * part.gflop / part.ms * 1e3 / self.peak:.0f}%"
                if kind in KINDS[:2] and part.ms
                else ""
            )
            cells.append(f"{100 * part.ms / self.run:.1f}%{speed}" if part.ms else "–")
        cells.append(f"{max(0.0, 100 * (self.run - self.steps) / self.run):.1f}%")
        return "| " + " | ".join(cells) + " |"


def measured(lab: Lab, model: str, url: str, threads: int, repeats: int, peak: float) -> Run:
    found = profile(lab, url, threads, repeats, every=True)
    run = Run(model, threads, peak, min(found["again"]), min(found["times"]))
    for step in found["profile"]["steps"]:
        part = run.parts[kind_of(found["specs"][step["kernel"]])]
        part.ms += step["ms"]
        part.gflop += (step["gflops"] or 0.0) * step["ms"] / 1e3
    return run


def section(about: dict[str, Any], runs: Sequence[Run]) -> str:
    peaks = {run.threads: run.peak for run in runs}
    said = ", ".join(f"{peak:.1f} GFLOP/s at {n}" for n, peak in sorted(peaks.items()))
    head = ["model, threads", "best run() new, given ms", "steps ms", "of peak", *KINDS, "between"]
    lines = [
        f"{about['cpu']}, {about['cores']} cores, {about['browser']}, {about['date']}; FMA peak {said}.\n",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        *(run.row() for run in runs),
    ]
    return "\n".join(lines)


def write(text: str) -> None:
    write_section("where", text, DOCS)
