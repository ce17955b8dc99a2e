"""Where a model's run on a GPU goes: its kernels by kind beside what the device can do, and what is no kernel.

    python3 serve.py bench --gpu models --batch 8              prints it for each model
    python3 -m tests.bench.gpu.steps RECORD.json [MODEL]       the same of a record; of one model each step

Takes the rows that main.py writes: a profile of each step by timestamp queries. `bound` is the time in which the device
would do a step's operations at its multiply-add peak, or move its bytes as a copy does, whichever is longer.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHOWN = 0.005
"""A line's share of the kernels' time at least."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """GFLOP/s of multiply-adds and GB/s of a copy, read and written, of large buffers and of such as fit the caches."""

    gflops: float
    gbytes: float
    near: float

    @staticmethod
    def read(found: dict[str, Any]) -> Peaks:
        return Peaks(*(float(found[name]) for name in ("gflops", "gbytes", "near")))

    def bound(self, step: dict[str, Any]) -> float:
        """Milliseconds that a step takes at least."""
        work, moved = _work(step)
        return max(work / self.gflops, moved / max(self.gbytes, self.near)) * 1e3


def _work(step: dict[str, Any]) -> tuple[float, float]:
    """Billions of operations and of bytes."""
    return tuple((step.get(name) or 0.0) * step["ms"] / 1e3 for name in ("gflops", "gbytes"))  # type: ignore[return-value]


@dataclass(slots=True)
class Kind:
    name: str
    count: int = 0
    ms: float = 0.0
    bound: float = 0.0
    gflop: float = 0.0
    gbyte: float = 0.0

    def add(self, step: dict[str, Any], peaks: Peaks) -> None:
        work, moved = _work(step)
        self.count, self.ms, self.bound = self.count + 1, self.ms + step["ms"], self.bound + peaks.bound(step)
        self.gflop, self.gbyte = self.gflop + work, self.gbyte + moved

    def line(self, peaks: Peaks) -> str:
        rate, stream = (1e3 * x / max(self.ms, 1e-9) for x in (self.gflop, self.gbyte))
        return (
            f"    {self.ms:8.3f} ms x{self.count:<3d} {rate / 1e3:5.1f} TFLOP/s {100 * rate / peaks.gflops:3.0f}% "
            f"{stream:6.0f} GB/s {100 * stream / peaks.gbytes:4.0f}%  bound {self.bound:7.3f} ms  {self.name}"
        )


def table(row: dict[str, Any], peaks: Peaks, each: bool = False) -> str:
    """The report of one model; `each`: of its steps, the longest first, and not of their kinds."""
    ours = row["nnjit"]
    steps = ours["profile"]["steps"]
    kinds: dict[str, Kind] = {}
    for n, step in enumerate(steps):
        name = f"{step['name']} {step['nodes'][:1]}" if each else step["name"]
        kinds.setdefault(f"{n} {name}" if each else name, Kind(name)).add(step, peaks)
    kernels, bound = (sum(getattr(k, f) for k in kinds.values()) for f in ("ms", "bound"))
    head = (
        f"{row['model']}: run() {ours['ms']:.2f} ms, kernels {kernels:.2f} ms in {len(steps)} steps "
        f"(bound {bound:.2f}), the rest {ours['ms'] - kernels:.2f} ms"
    )
    shown = sorted((k for k in kinds.values() if k.ms >= SHOWN * kernels), key=lambda k: -k.ms)
    return "\n".join([head, *(k.line(peaks) for k in shown)])


def main(arguments: list[str]) -> None:
    record = json.loads(Path(arguments[0]).read_text())
    peaks = Peaks.read(record["results"]["peaks"])
    for row in record["results"].get("models", []):
        if "profile" in row.get("nnjit", {}) and row["model"] in (arguments[1:] or [row["model"]]):
            print(table(row, peaks, each=len(arguments) > 1))


if __name__ == "__main__":
    main(sys.argv[1:])
