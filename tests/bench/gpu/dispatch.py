"""What a step costs the processor: a model of many small steps, run again and again with its tensors on the device.

The page encodes a run, the browser's GPU process checks it and hands it to the driver: CPU seconds of both processes
are read before and after (CDP, SystemInfo.getProcessInfo), beside the wall clock and the time the page spends encoding.
"""

from __future__ import annotations

from typing import Any

from onnx import TensorProto, helper
from playwright.sync_api import Browser, Page

from tests.bench.gpu.page import Bench
from tests.models import catalogue

STEPS = 500
SHORT = 5
"""Steps of a chain that shows what a run costs beside its steps."""
ROWS = 64
RUNS = 400


def chain(steps: int = STEPS, rows: int = ROWS) -> bytes:
    """Softmax along one axis and the other in turn: steps that no fusion joins, of two shaders."""
    names = [f"v{i}" for i in range(steps)] + ["y"]
    nodes = [
        helper.make_node("Softmax", ["x" if i == 0 else names[i]], [names[i + 1]], axis=i % 2)
        for i in range(steps)
    ]
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [rows, rows]) for n in "xy"]
    graph = helper.make_graph(nodes, "chain", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def seconds(browser: Browser) -> dict[str, float]:
    """CPU seconds of this browser's processes so far, by kind."""
    session = browser.new_browser_cdp_session()
    try:
        found: dict[str, float] = {}
        for p in session.send("SystemInfo.getProcessInfo")["processInfo"]:
            found[p["type"]] = found.get(p["type"], 0.0) + float(p["cpuTime"])
        return found
    finally:
        session.detach()


def measure(page: Page, browser: Browser, url: str, runs: int = RUNS) -> dict[str, Any]:
    """Microseconds a step: of the wall clock, of encoding, of CPU in the page's process and in the GPU's."""
    steps: int = page.evaluate("(a) => bench.openChain(...a)", [url, [ROWS, ROWS]])
    before = seconds(browser)
    found: dict[str, float] = page.evaluate("(n) => bench.spinChain(n)", runs)
    after = seconds(browser)
    page.evaluate("bench.closeChain()")
    each = 1e6 / (runs * steps)
    cpu = {kind: (after[kind] - before.get(kind, 0.0)) * each for kind in after}
    return {
        "steps": steps,
        "runs": runs,
        "wall us": found["ms"] / 1e3 * each,
        "encode us": found["encodeMs"] / 1e3 * each,
        "page us": cpu.get("renderer", 0.0),
        "gpu process us": cpu.get("GPU", 0.0),
    }


def dispatch(bench: Bench) -> None:
    """Steps of models whose kernels are short, queued one run after another: what a step takes at most."""
    bench.result["dispatch"] = rows = []
    for name in (n for n in ("mobilenet-v2", "resnet-50") if n in bench.options.models.split(",")):
        entry = catalogue.MODELS[name]
        url = bench.lab.site.put(f"~/{name}.onnx", entry.path().read_bytes())
        found = bench.resident("nnjit", url, [[1, 3, 224, 224]], "float32", bench.options.queued)
        if found:
            found["us a step"] = 1e3 * found["ms"] / found["steps"]
            rows.append({"model": name, **found})
            bench.save()
            bench.say(f"{name}: {found['ms']:.3f} ms a run, {found['us a step']:.2f} us a step")
    for name, steps in (("chain", STEPS), ("short chain", SHORT)):
        url = bench.lab.site.put(f"~/{name}.onnx".replace(" ", "-"), chain(steps))
        row = measure(bench.page, bench.lab.browser, url, bench.options.runs)
        rows.append({"model": name, **row})
        bench.save()
        bench.say(f"{name}: " + "  ".join(f"{key} {value:.2f}" for key, value in row.items()))
