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
          let now;
          await until(async () => {
            now = await python(count);
            await new Promise((next) => setTimeout(next, 50));
            return Math.min(...now) > 5;
          }, () => now);
          return now;
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


def test_what_is_waited_for_in_vain_is_named(page: Page) -> None:
    """Also where a test has replaced the clocks, and with what is still waited for when a script does not end."""
    found = page.evaluate("""async () => {
      const told = (promise) => promise.then(() => 'over', ({ message }) => message);
      const { setTimeout: real, performance: { now } } = globalThis;
      globalThis.setTimeout = () => 0;
      performance.now = () => 0;
      try {
        let looks = 0;
        const well = await told(until(async () => ++looks > 2));
        const never = await told(until(() => looks < 0, () => ({ looks }), 0.05));
        const wait = () => until(() => looks < 0, undefined, 1);
        const stuck = await told(inTime(wait, undefined, 0.05));
        return [well, never, stuck, await inTime((n) => n + 1, 1), await inTime(Promise.resolve(3))];
      } finally {
        globalThis.setTimeout = real;
        performance.now = now;
      }
    }""")
    well, never, stuck, *values = found
    assert well == "over" and values == [2, 3]
    assert never.startswith("not so after 0.05 s: () => looks < 0 {") and '"looks":' in never
    assert stuck.startswith("not over after 0.05 s, waits for () => looks < 0: ")


def test_swiftshader_gives_a_gpu_device(swiftshader_page: Page) -> None:
    limit = swiftshader_page.evaluate("""async () => {
      const device = await (await navigator.gpu.requestAdapter()).requestDevice();
      return device.limits.maxComputeInvocationsPerWorkgroup;
    }""")
    assert limit >= 128
