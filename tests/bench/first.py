"""The way to a first result, stage by stage: download, graph, kernels, shaders, constants, beside onnxruntime-web.

    python3 serve.py bench --first                       WebGPU, the six models of docs/webgpu-measured.md
    python3 serve.py bench --first gpt2,t5-small --batch 1,8 --backend wasm --threads 2 --repeats 3

A fresh page for each sample; a small model has run there before, so that runtimes, devices and their code are up. Times
are ms since `create` was called: where a stage is a span, its first and its last sign. All rows are gone through once
after another (`--repeats`, 3 on WebGPU), the two libraries in turn, each first every other time; a row tells the page
whose first result is the median, with the least and the most. What ends early has a sample of each row first. With
`--again` it is the second time: another page of the same profile had a first result of the model before, so that
nnjit's plan is kept and the file is in the browser's cache. The browser and the adapter come from NNJIT_DEVICE_* as for
`--gpu`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from playwright.sync_api import Page, sync_playwright

from nnjit.devtools.cli import Project
from nnjit.devtools.httpd import Server
from tests.bench.first_samples import LIBRARIES, added, shown, sooner, times
from tests.device.conftest import ADAPTER, executable, flags, vendor
from tests.models import catalogue
from tests.support.browser import Lab
from tests.support.codec import Packer

MODELS = ("mobilenet-v2", "resnet-50", "roberta-base", "t5-small", "bart-base", "gpt2")
HEAD = (
    "| model | file | graph read | create | kernels written | shaders: ready (longest) | constants | "
    "first result | a run | onnxruntime-web: create | first result |"
)


def small_model() -> bytes:
    """y = Sigmoid(x) of three numbers."""
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Sigmoid", ["x"], ["y"])], "warm", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def span(stages: dict[str, Any], name: str) -> str:
    found = stages.get(name)
    return f"{found['from']:.0f}–{found['to']:.0f}" if found else ""


def line(row: dict[str, Any]) -> str:
    """A row of the table; what could not run says so."""
    ours, peer = row["nnjit"], row.get("onnxruntime-web", {})
    if "failed" in ours:
        return f"| {row['model']} | {ours['failed'][:160]} |"
    stages, made = ours["stages"], ours["pipelines"]
    shaders = ""
    if made:
        ready = max(p["asked"] + p["ms"] for p in made)
        shaders = f"{len(made)}: {ready:.0f} ({max(p['ms'] for p in made):.0f})"
    parsed = stages.get("parse", {}).get("to", 0)
    sent = ours.get("sent", {})
    constants = span({"sent": sent}, "sent") if sent.get("bytes") else span(stages, "load")
    cells = [
        span(stages, "model"), f"{parsed:.0f}", f"{ours['createMs']:.0f}", span(stages, "compile"), shaders,
        constants, f"**{shown(times(row, 'nnjit'))}**", f"{ours['runMs']:.1f}",
        f"{peer['createMs']:.0f}" if "createMs" in peer else "", shown(times(row, "onnxruntime-web")),
    ]  # fmt: skip
    return f"| {row['model']} | {' | '.join(cells)} |"


class First:
    def __init__(self, lab: Lab, options: argparse.Namespace) -> None:
        self.lab, self.options = lab, options
        self.pages: dict[tuple[int, str], list[dict[str, Any]]] = {}
        """By row (a model may be named twice) and library."""
        warm = Packer()
        x = {"x": warm.add(np.zeros(3, np.float32))}
        self.small = (
            lab.site.put("~/small.onnx", small_model()),
            x,
            lab.site.put("~/small.bin", bytes(warm.blob)),
        )

    def page(self, beside: Page | None = None) -> Page:
        """beside: of the same profile as this one."""
        if beside is None:
            page = self.lab.page()
        else:
            page = beside.context.new_page()
            page.goto(beside.url)
        page.set_default_timeout(0)
        page.evaluate("import('/t/bench/first.js').then(() => true)")
        return page

    def sample(self, row: dict[str, Any], name: str, batch: int, number: int) -> None:
        """Both libraries, each in a page of its own, for the row of a model."""
        entry, options = catalogue.MODELS[name], self.options
        packer = Packer()
        feeds = entry.make(batch, *entry.shapes[0][1:], seed=1000)
        heads = {n: packer.add(v) for n, v in feeds.items()}
        blob = self.lab.site.put(f"~/{name}.bin", bytes(packer.blob))
        url = self.lab.site.mount(f"m/{name}", entry.path().parent) + entry.path().name
        libraries = LIBRARIES[: 2 if options.peers else 1]
        for library in libraries if number % 2 == 0 else libraries[::-1]:
            page = self.page()
            try:
                if library == "nnjit" and options.fetch and "fetchMs" not in row:
                    row["fetchMs"] = {
                        n: page.evaluate("(a) => first.fetching(...a)", [f"{url}?{n}", n]) for n in (1, 2, 4)
                    }
                how = [library, options.backend, options.threads]
                ends = [options.settle, options.again]
                for before in [True, False] if options.again else [False]:
                    page.evaluate("(a) => first.first(...a)", [*how, *self.small, *ends])
                    found = page.evaluate("(a) => first.first(...a)", [*how, url, heads, blob, *ends])
                    if before:
                        later = self.page(beside=page)
                        page.close()
                        page = later
                if library == "nnjit" and options.again and found["kept"] not in ("served", "checked"):
                    raise RuntimeError(f"the plan was not kept: {found['kept']!r}")
            except Exception as error:  # what cannot run is a line in the record
                found = {"failed": str(error)[:600]}
            page.context.close()
            added(row, library, found, self.pages.setdefault((id(row), library), []))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="bench --first", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="?", default=",".join(MODELS))
    parser.add_argument("--backend", default="webgpu", choices=("webgpu", "wasm"))
    parser.add_argument("--threads", type=int, default=2, help="of WebAssembly; default %(default)s")
    parser.add_argument("--batch", default="1", help="how many inputs a run takes: 1, or 1,8")
    parser.add_argument(
        "--fetch", action="store_true", help="also the file alone, in 1, 2 and 4 parts at once"
    )
    parser.add_argument(
        "--settle",
        type=int,
        default=0,
        help="ms before each model, in which a page has nothing to do; default %(default)s",
    )
    parser.add_argument(
        "--repeats",
        "--samples",
        type=int,
        help="pages of each library and model; default 3 on WebGPU, else 1",
    )
    parser.add_argument("--again", action="store_true", help="the second time in one profile")
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--out", type=Path, help="a folder for first-DATE.json")
    options = parser.parse_args(arguments)
    repeats = options.repeats or (3 if options.backend == "webgpu" else 1)
    project = Project()
    project.vendor.ensure("runtime", "bench-gpu" if options.backend == "webgpu" else "bench")
    project.dist.refresh()
    server = Server(project.site())
    server.start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=flags())
        first = First(Lab(server, browser), options)
        adapter = first.lab.page().evaluate(ADAPTER)
        if options.backend == "webgpu" and vendor() not in adapter.lower():
            raise SystemExit(f"the adapter is {adapter!r}; {vendor()!r} is expected")
        record = {"date": time.strftime("%Y-%m-%dT%H:%M:%S"), "adapter": adapter, "browser": browser.version,
                  "flags": flags(), "backend": options.backend, "repeats": repeats, "again": options.again,
                  "rows": []}  # fmt: skip
        plan = [(n, b) for n in options.models.split(",") for b in map(int, options.batch.split(","))]
        rows: list[dict[str, Any]] = [{"model": n if b == 1 else f"{n} x{b}"} for n, b in plan]
        path = options.out and options.out / f"first-{time.strftime('%Y%m%d-%H%M%S')}.json"
        print(HEAD + "\n" + "|---" * 11 + "|", flush=True)
        begun = time.monotonic()
        for number in range(repeats):
            for (name, batch), row in zip(plan, rows, strict=True):
                first.sample(row, name, batch, number)
                record["rows"] = [r for r in rows if "samples" in r]
                if path:  # after each sample: what is measured is kept, whatever comes after
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(json.dumps(record, indent=1) + "\n")
                if number == repeats - 1:
                    print(line(row), flush=True)
                    if "fetchMs" in row:
                        print(f"  the file alone: {row['fetchMs']}", flush=True)
            print(f"  {number + 1} of {repeats} samples, {time.monotonic() - begun:.0f} s", flush=True)
        found = sooner(rows)
        if found:
            later = ", ".join(name for name, yes in found.items() if not yes) or "none"
            print(f"sooner by the median: {sum(found.values())} of {len(found)}; later: {later}")
        if path:
            print(path)
        browser.close()
    server.shutdown()
    server.server_close()
    return 0
