"""What every part of the WebGPU bench works with: the page, the device's facts, where results go, and how a shader or a
model whose tensors stay on the device is timed there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Error, Page

from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.steps import Schedule, describe
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.emit import emit
from nnjit.codegen.wgsl.target import WgslTarget

LIBRARIES = ("nnjit", "onnxruntime-web")
Say = Callable[[str], None]


class Bench:
    """A page in which main.js has started, and the record that its parts fill; `save` writes that to the disk."""

    def __init__(self, page: Page, lab: Any, options: argparse.Namespace, say: Say) -> None:
        self.page, self.lab, self.options, self.say = page, lab, options, say
        self.facts: dict[str, Any] = page.evaluate("bench.start()")
        self.target = WgslTarget.read(self.facts)
        self.result: dict[str, Any] = {}
        self.save: Callable[[], None] = lambda: None

    @property
    def libraries(self) -> tuple[str, ...]:
        return LIBRARIES if self.options.peers else LIBRARIES[:1]

    def shader(self, spec: KernelSpec, schedule: Schedule) -> dict[str, Any]:
        return emit(apply(spec, schedule), self.target).to_js()

    def candidate(
        self, spec: KernelSpec, schedule: Schedule, time: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> dict[str, Any]:
        """A line of the record: the schedule and what `time` says of its shader, or why it failed."""
        try:
            return {"schedule": describe(schedule), **time(self.shader(spec, schedule))}
        except Error as error:  # a shader that the driver refuses
            return {"schedule": describe(schedule), "failed": str(error)[:400]}

    def timed(self, shader: dict[str, Any], how: dict[str, Any] | None = None) -> dict[str, Any]:
        """By timestamps; with sizes of a product also its error."""
        found: dict[str, Any] = self.page.evaluate("([s, p]) => bench.timeShader(s, p, {})", [shader, how])
        return found

    def ms(self, shader: dict[str, Any]) -> float:
        """A shader's time in some samples; RuntimeError where the driver refuses it."""
        how = {"samples": 3, "limitMs": 60}
        try:
            timed = self.page.evaluate("([s, how]) => bench.timeShader(s, null, how)", [shader, how])
        except Error as error:
            raise RuntimeError(str(error)) from error
        return float(timed["ms"])

    def forget(self) -> None:
        """Destroys the operands that candidates shared."""
        self.page.evaluate("bench.forget()")

    def resident(
        self, library: str, url: str, dims: list[list[int]], dtype: str, queued: int
    ) -> dict[str, Any] | None:
        """Runs whose tensors stay on the device; None for a library that cannot."""
        try:
            found: dict[str, Any] = self.page.evaluate(
                "(a) => bench.resident(...a)", [library, url, dims, dtype, queued]
            )
            return found
        except Exception as error:
            self.say(f"  {library} failed: {str(error)[:300]}")
            return None


def difference(ours: list[float | None], theirs: list[float | None]) -> float:
    """The largest between the first values of an output; NaN where one of them is none."""
    pairs = zip(ours, theirs, strict=True)
    return max(
        (abs(a - b) if a is not None and b is not None else float("nan") for a, b in pairs), default=0.0
    )
