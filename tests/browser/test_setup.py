"""The page's ground: isolation, the manifest, and Pyodide with what it needs, booted from web/vendor/."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Error as PlaywrightError

from .api_page import Api

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from nnjit.devtools.httpd import Server

BOOT = """async () => {
  const manifest = await (await fetch('/dist/manifest.json')).json();
  const { loadPyodide } = await import('/' + manifest.pyodide.module);
  const pyodide = await loadPyodide({ indexURL: '/' + manifest.pyodide.indexURL });
  const wheels = [...manifest.packages, manifest.nnjit].map((p) => location.origin + '/' + p.url);
  await pyodide.loadPackage(wheels, { checkIntegrity: false });
  return pyodide.runPython(`
import sys, importlib.util as find, numpy, nnjit
[sys.version.split()[0], numpy.__version__, bool(find.find_spec("onnx")),
 find.find_spec("nnjit.devtools") is None, "nnjit" in nnjit.__file__]`).toJs();
}"""


def test_the_page_has_what_the_engine_needs(page: Page) -> None:
    facts: Any = page.evaluate("""() => ({
      isolated: crossOriginIsolated,
      shared: new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer.constructor.name,
    })""")
    assert facts == {"isolated": True, "shared": "SharedArrayBuffer"}


def test_pyodide_boots_from_vendored_files_alone(page: Page) -> None:
    hosts = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    python, numpy, onnx, no_devtools, nnjit = page.evaluate(BOOT)
    assert (python[:4], numpy) == ("3.14", "2.4.3")
    assert onnx and no_devtools and nnjit
    assert hosts == {page.url.split("/")[2]}


def test_the_compiler_tries_itself_out_while_nobody_waits(new_page: Any, server: Server) -> None:
    """Both emitters have made kernels before anybody asked for one."""
    with new_page() as page:  # a console error fails the test
        Api(page, server)
        made = page.evaluate("""async () => {
          const { python } = await import('/nnjit.js');
          const count = `
from nnjit.codegen.wasm import cache as wasm
from nnjit.codegen.wgsl import cache as wgsl
[len(wasm._made), len(wgsl._made)]`;
          for (const end = performance.now() + 120_000; performance.now() < end;) {
            const now = await python(count);
            if (Math.min(...now) > 5) return now;
            await new Promise((next) => setTimeout(next, 50));
          }
          return await python(count);
        }""")
    assert min(made) > 5, made


def test_a_wait_that_never_ends_is_ended_with_its_browser(new_page: Any, browsers: Any) -> None:
    hung = "the page crashed|console|uncaught"
    with new_page("spare", allowed=[hung]) as page:
        threading.Timer(1.0, browsers.end, [{"spare": browsers.pids["spare"]}]).start()
        with pytest.raises(PlaywrightError, match="closed"):
            page.evaluate("new Promise(() => {})")
    with new_page("spare") as page:  # a new browser
        assert page.evaluate("1 + 1") == 2


def test_swiftshader_gives_a_gpu_device(swiftshader_page: Page) -> None:
    limit = swiftshader_page.evaluate("""async () => {
      const device = await (await navigator.gpu.requestAdapter()).requestDevice();
      return device.limits.maxComputeInvocationsPerWorkgroup;
    }""")
    assert limit >= 128
