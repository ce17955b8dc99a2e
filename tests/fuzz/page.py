"""Random models in a page, on WebAssembly, against onnx.reference and onnxruntime:

    PYTHONPATH=py python -m tests.fuzz.page [--area all] [--seeds 0:200] [--extremes] [--batch 12] [--seconds 600]

A batch of them is open at a time. Each runs twice, on one thread or two, on the page's own or in the engine's worker;
where the compiler gives up (`strict`), that is a fault. Prints each fault with its smallest case; ends with 1 if there
was one.
"""

from __future__ import annotations

import argparse
import base64
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.fuzz.areas import AREAS, draw
from tests.fuzz.builder import Case
from tests.fuzz.judge import Fault, judge
from tests.fuzz.shrink import shrink
from tests.support.codec import Packer, bundle, unpack

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from nnjit.devtools.site import Site
    from tests.support.browser import Lab

Answer = Mapping[str, Any] | Exception
CALL = "async (url) => (await import('/t/fuzz/page.js')).run(url)"
BATCH_SECONDS = 120


class Wrong(Exception):
    """What a page said in place of outputs, or that they differ from run to run."""


def options(seed: int, extremes: bool) -> dict[str, Any]:
    """How a session is opened: each way in turn. A tile of Winograd makes NaN of any infinity in it."""
    plain = {"numThreads": 1 + seed % 2, "runOn": ("auto", "worker")[seed // 2 % 2], "strict": True}
    return plain | ({"convolution": "direct"} if extremes else {})


def answers(page: Page, site: Site, cases: Sequence[tuple[Case, dict[str, Any]]]) -> list[Answer]:
    """What a page answers to each case, opened with its options; all are open at a time."""
    packer = Packer()
    head = [
        {
            "model": packer.add_bytes(case.model()),
            "options": how,
            "inputs": {name: packer.add(array) for name, array in case.feeds().items()},
            "outputs": case.outputs,
        }
        for case, how in cases
    ]
    path = site.put("case/batch.bin", bundle({"cases": head}, packer.blob))
    try:
        found = page.evaluate(CALL, path)
    finally:
        site.memory.pop(path.strip("/"), None)
    data = base64.b64decode(found["data"])
    return [_answer(case, told, data) for (case, _), told in zip(cases, found["told"], strict=True)]


def _answer(case: Case, told: dict[str, Any], data: bytes) -> Answer:
    if told["error"]:
        return Wrong(told["error"])
    first, second = ([unpack(head, data) for head in heads] for heads in told["rounds"])
    for name, one, other in zip(case.outputs, first, second, strict=True):
        if one.tobytes() != other.tobytes():
            return Wrong(f"{name} differs in the second run")
    return dict(zip(case.outputs, first, strict=True))


def judged(case: Case, answer: Answer, ask: bool = True) -> Fault | None:
    """What is wrong with an answer, as `judge` has it."""

    def run(_model: bytes, _feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return judge(case, run, ask)


class Pages:
    """A page that is opened anew where a case takes it down; such a case is found by running its batch one by one."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._page: Page | None = None

    def __call__(self, cases: Sequence[tuple[Case, dict[str, Any]]]) -> list[Answer]:
        from playwright.sync_api import Error

        try:
            if self._page is None:
                self._page = self.lab.page()
            with self.lab.watchdog(BATCH_SECONDS, self.lab.renderers()):
                return answers(self._page, self.lab.site, cases)
        except Error as error:
            with suppress(Error):
                if self._page is not None:
                    self._page.context.close()
            self._page = None
            if len(cases) == 1:
                return [Wrong(f"the page: {str(error).splitlines()[0]}")]
            return [answer for one in cases for answer in self([one])]


def fuzz(
    run: Callable[[Sequence[tuple[Case, dict[str, Any]]]], list[Answer]], seeds: range, areas: Sequence[str],
    extremes: bool, batch: int, until: float,
) -> int:  # fmt: skip
    """Runs them, prints faults, gives their number."""
    faults, ran, operators, differ = 0, 0, Counter[str](), Counter[str]()
    for first in range(seeds.start, seeds.stop, batch):
        if time.monotonic() > until:
            print(f"stopped before seed {first}")
            break
        some = [
            (seed, draw(areas[seed % len(areas)], seed, extremes))
            for seed in seeds
            if first <= seed < first + batch
        ]
        some = [(seed, case) for seed, case in some if case.outputs]
        if not some:
            continue
        for (seed, case), answer in zip(some, run([(c, options(s, extremes)) for s, c in some]), strict=True):
            ran += 1
            operators.update(n.op_type for n in case.nodes)
            fault = judged(case, answer)
            if fault is None:
                continue
            how = options(seed, extremes)
            case, fault = shrink(case, lambda c, how=how: judged(c, run([(c, how)])[0]), fault)  # type: ignore[misc]
            if fault.peers_differ:
                differ[" ".join(n.op_type for n in case.nodes)] += 1
                continue
            faults += 1
            print(
                f"--- {areas[seed % len(areas)]} {seed}: {fault.kind}: {fault.text}\n{case.text()}",
                flush=True,
            )
    print(f"{ran} cases, {sum(operators.values())} nodes, {len(operators)} operators, {faults} faults")
    if differ:
        print("as onnxruntime, unlike onnx.reference:", dict(differ))
    return faults


def main() -> int:
    from tests.support.browser import started

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.page", description=__doc__)
    parser.add_argument("--area", default="all", choices=["all", *sorted(AREAS)])
    parser.add_argument("--seeds", default="0:200", help="first:last, or one")
    parser.add_argument(
        "--extremes", action="store_true", help="infinities, NaN, -0.0, denormals, the largest integers"
    )
    parser.add_argument("--batch", type=int, default=12, help="models that are open at a time")
    parser.add_argument("--seconds", type=float, default=600, help="start no batch after so long")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    first, _, last = given.seeds.partition(":")
    seeds = range(int(first), int(last or int(first) + 1))
    areas = sorted(set(AREAS) - {"large"}) if given.area == "all" else [given.area]
    with started() as lab:
        until = time.monotonic() + given.seconds
        faults = fuzz(Pages(lab), seeds, areas, given.extremes, given.batch, until)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
