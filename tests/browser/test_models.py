"""The catalogue's models through the public API in Chromium, at three shapes, against native onnxruntime.

Small models run at one and two threads; those of 150 MB and more once, at two, and one of them at its real size.
"""

from __future__ import annotations

import base64
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page
from playwright.sync_api import Error as PlaywrightError

from nnjit.devtools.httpd import Server
from tests.models.catalogue import BIG, MODELS, SMALL, Model
from tests.models.judge import difference, judge, on_reference
from tests.support.browser import Lab
from tests.support.codec import Packer, bundle, unpack

SHORTER = {"bart-base": (1, 130, 70), "gpt2": (1, 130), "t5-small": (1, 130, 70)}
"""In place of the real size, which `serve.py bench` holds against onnxruntime, too: several tiles of rows and blocks of
keys, none of them whole."""
LIMIT = 150  # seconds for one answer of the page


class Bench:
    """A page that runs models, each opened, run at its shapes and closed."""

    def __init__(self, lab: Lab, threads: int) -> None:
        self.lab = lab
        self.page: Page = lab.page()
        self.page.evaluate(
            "async (n) => { window.m = await import('/t/models/page.js'); await m.start(n); }", threads
        )

    def run(self, model: Model, shape: int) -> dict[str, Any]:
        packer = Packer()
        heads = {name: packer.add(value) for name, value in model.feeds(shape).items()}
        url = self.lab.site.put(f"feeds/{model.name}-{shape}.bin", bundle({"inputs": heads}, packer.blob))
        result: dict[str, Any] = self.page.evaluate("([url, limit]) => m.run(url, limit)", [url, LIMIT])
        data = base64.b64decode(result.pop("data"))
        result["outputs"] = {name: unpack(head, data) for name, head in result["heads"].items()}
        return result

    def check(self, model: Model, shapes: range) -> None:
        folder = self.lab.site.mount(f"m/{model.name}", model.path().parent)
        begin = time.monotonic()
        try:
            self.page.evaluate("([url, limit]) => m.open(url, limit)", [folder + model.path().name, LIMIT])
            print(f"{model.name}: created in {time.monotonic() - begin:.1f} s")
            for shape in shapes:
                result = self.run(model, shape)
                lines = judge(model.label(shape), model.expected(shape), result["outputs"])
                last = (result["stats"] or {}).get("lastRun") or {}
                times = {k: round(last[k], 1) for k in ("ms", "engineMs", "compileMs") if k in last}
                print("\n".join(lines), times)
                assert not on_reference(model.name, result["placement"])
        finally:
            self.close()

    def close(self) -> None:
        """Releases the session; a page that cannot is given up, and the next model gets a fresh one."""
        try:
            self.page.evaluate("() => m.close()")
        except PlaywrightError:
            self.page.context.close()


@pytest.fixture(scope="module")
def bench(server: Server, browser: Browser) -> Iterator[Callable[[int], Bench]]:
    """bench(threads): one page for each thread count."""
    lab, pages = Lab(server, browser), dict[int, Bench]()

    def get(threads: int) -> Bench:
        if threads in pages and pages[threads].page.is_closed():
            del pages[threads]
        if threads not in pages:
            pages[threads] = Bench(lab, threads)
        return pages[threads]

    yield get
    for used in pages.values():
        used.page.context.close()


def check(bench: Callable[[int], Bench], threads: int, model: Model) -> None:
    """All shapes of a model. A page that falls silent is replaced once, with a warning in pytest's summary: a
    big model's page has done so on a loaded machine, with idle workers, and never when watched. Wrong numbers,
    typed errors and a second silence fail at once."""
    try:
        bench(threads).check(model, range(len(model.shapes)))
    except PlaywrightError as error:
        if "no answer within" not in error.message:
            raise
        what = error.message.splitlines()[0]
        warnings.warn(f"{model.name}, {threads} threads: {what}; tried again in a fresh page", stacklevel=1)
        bench(threads).check(model, range(len(model.shapes)))


@pytest.mark.parametrize("threads", [2, 1])
@pytest.mark.parametrize("name", SMALL)
def test_small_model(name: str, threads: int, bench: Callable[[int], Bench]) -> None:
    check(bench, threads, MODELS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", BIG)
def test_big_model(name: str, bench: Callable[[int], Bench]) -> None:
    model = MODELS[name]
    first, *others = model.shapes
    check(bench, 2, replace(model, shapes=(SHORTER.get(name, first), *others)))


@pytest.mark.parametrize("name", ["magika", "silero-vad", "ppocr-cls"])
def test_the_tolerance_notices_a_small_error(name: str) -> None:
    """The judge isn't so wide that a wrong weight slips through: 0.5 % on one value of the answer is seen."""
    for want in MODELS[name].expected(0).values():
        wrong = want.copy()
        wrong.flat[np.abs(want).argmax()] *= 1.005
        assert difference(want, want).share == 0
        assert difference(want, wrong).share > 1
