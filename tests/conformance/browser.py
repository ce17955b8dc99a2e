"""Runs cases in a real browser through the public API, one page for many cases.

`run_browser(cases)` yields an Outcome a case. A case that hangs or takes the page down costs itself: the page
is opened anew and the next case goes on there.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page

from tests.conformance.cases import Case
from tests.conformance.outcome import Outcome, judge, placed
from tests.device.conftest import ADAPTER, flags, vendor
from tests.support.browser import Lab, started
from tests.support.codec import Packer, bundle, unpack
from tests.support.others import OTHERS, other_lab
from tests.support.remote import RemoteError

BOOT_SECONDS = 180


def packed(case: Case) -> bytes:
    """The case as one file: model and feeds, without the answers."""
    packer = Packer()
    model = packer.add_bytes(case.model_bytes())
    sets = [
        {"inputs": {name: packer.add(v) for name, v in data.inputs.items()}, "outputs": list(data.outputs)}
        for data in case.data_sets()
    ]
    return bundle({"model": model, "sets": sets}, packer.blob)


class Runner:
    """A page with the library loaded; opened on first use and again after a crash."""

    def __init__(self, lab: Lab, library: str, threads: int, timeout: float, provider: str) -> None:
        self.lab, self.timeout = lab, timeout
        self.start = [library, threads, provider]
        self.page: Page | None = None
        self.pids: list[int] = []

    def open(self) -> Page:
        page = self.lab.page()
        if "webgpu" in self.start:
            adapter = page.evaluate(ADAPTER)
            if vendor() not in adapter.lower():
                raise RuntimeError(f"the adapter is {adapter!r}; {vendor()!r} is expected")
        self.pids = self.lab.renderers()
        with self.lab.watchdog(BOOT_SECONDS, self.pids):
            page.evaluate(
                "async (given) => { window.cases = await import('/t/conformance/page.js');"
                " await window.cases.start(...given); }",
                self.start,
            )
        return page

    def close(self) -> None:
        if self.page is not None:
            with suppress(PlaywrightError, RemoteError):  # its process may be gone already
                self.page.context.close()
        self.page = None

    def run(self, case: Case) -> Outcome:
        if self.page is None:
            self.page = self.open()
        path = self.lab.site.put(f"case/{case.id}.bin", packed(case))
        try:
            with self.lab.watchdog(self.timeout + 20, self.pids):
                result = self.page.evaluate(
                    "([url, timeout]) => window.cases.run(url, timeout)", [path, 1000 * self.timeout]
                )
        except (PlaywrightError, RemoteError) as error:
            self.close()
            return Outcome(case.id, "crash", str(error).splitlines()[0])
        finally:
            self.lab.site.memory.pop(path.strip("/"), None)
        if result["status"] == "timeout" or result.get("code") == "ENGINE_DIED":
            self.close()
        return outcome_of(case, result)


def outcome_of(case: Case, result: dict[str, Any]) -> Outcome:
    if result["status"] != "ran":
        reason = " ".join(result["reason"].split())[:300]
        return Outcome(case.id, result["status"], reason, result.get("code", ""), result["ms"])
    data = base64.b64decode(result["data"])
    outputs = [[unpack(head, data) for head in heads] for heads in result["sets"]]
    return judge(case, outputs, ms=result["ms"], **placed(result["placement"]))


def run_browser(
    cases: Sequence[Case],
    peer: bool = False,
    threads: int = 2,
    timeout: float = 60.0,
    provider: str = "wasm",
    browser: str = "chromium",
) -> Iterator[Outcome]:
    """Outcomes in order. `peer`: onnxruntime-web in place of nnjit. `timeout`: seconds for one case. provider "webgpu":
    on the adapter that NNJIT_DEVICE_* name (tests/device/conftest.py), SwiftShader by default, and on no other."""
    opened: Any = (
        other_lab(browser) if browser in OTHERS else started(flags() if provider == "webgpu" else ())
    )
    with opened as lab:
        runner = Runner(lab, "onnxruntime-web" if peer else "nnjit", threads, timeout, provider)
        for case in cases:
            yield runner.run(case)
        runner.close()
