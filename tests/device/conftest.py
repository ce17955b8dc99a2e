"""A booted page on whatever WebGPU adapter there is, by environment variables.

NNJIT_DEVICE_BROWSER  the browser's executable (default: the Chromium of the other tests)
NNJIT_DEVICE_FLAGS    its flags, as a shell would split them (default: those of the software adapter)
NNJIT_DEVICE_VENDOR   what the adapter's vendor, architecture or description must contain (default: swiftshader), or
                      shader-f16, which alone tells lavapipe (tests/device/lavapipe.py) from SwiftShader

The adapter is asserted before any test: the suite never runs on another one without saying so.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.devtools.browser import find_chromium
from tests.browser.api_page import Api
from tests.conftest import PLAIN, START_PAGE, SWIFTSHADER, Browsers
from tests.support.browser import PATIENCE_MS
from tests.support.waiting import WAITING

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from nnjit.devtools.httpd import Server

if "NNJIT_DEVICE_BROWSER" in os.environ:
    # no other browser is looked for on a machine that has this one
    os.environ.setdefault("NNJIT_CHROMIUM", os.environ["NNJIT_DEVICE_BROWSER"])

ADAPTER = """async () => {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: 'high-performance' });
  const info = adapter?.info;
  const half = adapter?.features.has('shader-f16') ? ' shader-f16' : '';
  return info ? `${info.vendor} ${info.architecture} ${info.description}${half}` : 'no adapter';
}"""


def executable() -> str | None:
    return os.environ.get("NNJIT_DEVICE_BROWSER") or find_chromium(Path(sys.executable), print)


def flags() -> list[str]:
    given = os.environ.get("NNJIT_DEVICE_FLAGS")
    return PLAIN + (SWIFTSHADER if given is None else shlex.split(given))


def vendor() -> str:
    return os.environ.get("NNJIT_DEVICE_VENDOR", "swiftshader")


@pytest.fixture(scope="session")
def device_page(browsers: Browsers, server: Server) -> Iterator[Page]:
    """An isolated page whose adapter is the one that is meant."""
    browser = browsers.playwright.chromium.launch(executable_path=executable(), args=flags())
    context = browser.new_context(base_url=server.url)
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(WAITING)
    page = context.new_page()
    page.goto(START_PAGE)
    assert page.evaluate("crossOriginIsolated"), "the test page is not cross-origin isolated"
    adapter = page.evaluate(ADAPTER)
    assert vendor() in adapter.lower(), f"the adapter is {adapter!r}; {vendor()!r} is expected"
    yield page
    browser.close()


@pytest.fixture(scope="session")
def booted_device(device_page: Page, server: Server) -> Api:
    return Api(device_page, server)


@pytest.fixture(scope="session")
def facts(booted_device: Api) -> dict[str, Any]:
    """What the engine says of the device."""
    found: dict[str, Any] = booted_device.run(
        """async () => {
          const { GpuClient } = await import('/engine/webgpu/client.js');
          const client = await GpuClient.start();
          const { facts } = client;
          client.terminate();
          return facts;
        }"""
    )
    return found


@pytest.fixture(scope="session")
def target(facts: dict[str, Any]) -> WgslTarget:
    """The device as the compiler sees it."""
    return WgslTarget.read(facts)


@pytest.fixture
def gpu(booted_device: Api) -> Iterator[Api]:
    """The public API on that page; a console error fails the test."""
    with booted_device.expecting():
        yield booted_device


@pytest.fixture
def undisturbed(gpu: Api) -> Iterator[Api]:
    """The same, for tests that count what is done on the device: kernels are not looked at between their runs."""
    quiet = "import nnjit.runtime.bridge_proof as proof; kept = dict(proof.GPU_PROOF); proof.GPU_PROOF['quietMs'] = 1e9"
    gpu.run("async (code) => { await nnjit.python(code); }", quiet)
    yield gpu
    gpu.run("async (code) => { await nnjit.python(code); }", "proof.GPU_PROOF.update(kept)")


def encoded(array: Any) -> dict[str, Any]:
    """A numpy array for `decode` in the page."""
    import base64

    import numpy as np

    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"type": str(array.dtype), "dims": list(array.shape), "data": data}


def decoded(value: dict[str, Any]) -> Any:
    """The array of what `encode` in the page gave."""
    import base64

    import numpy as np

    return np.frombuffer(base64.b64decode(value["data"]), value["type"]).reshape(value["dims"])
