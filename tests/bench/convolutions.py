"""Layers against the machine's limits: convolutions, products of narrow numbers, each step of theirs, beside
onnxruntime-web.

    python3 serve.py bench --layers 'conv 1x' --threads 2
    python3 serve.py bench --layers 'qlinear|qlayer'                   layers of bytes, by themselves and inside
    python3 serve.py bench --layers 'qdq|dynamic|nbits|f16 weights'    chains of bytes, weights that stay narrow
    python3 serve.py bench --layers 's2 dw' --libraries nnjit          without the peer: the kernels alone

A row is a layer of tests/bench/operators: run() of both libraries and their ratio, then the time of the layer's own
steps (what makes or moves its input for it included) as a share of the peak and of the roofline: the larger of the
direct sum's arithmetic at that peak and input, weights and output once at the speed of a reading loop over as many
bytes. The peak is that of the multiply-add, or of the dot product of bytes where the sum is one. Winograd does fewer
operations than the direct sum: its shares may pass 100%. The ceiling is onnxruntime-web's time over that of the
roofline.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import onnx
from playwright.sync_api import Page

from tests.bench.operators.op import Op
from tests.bench.operators.ops import all_ops
from tests.support.browser import Lab

LAYERS = ("Conv", "QLinearConv", "QLinearMatMul")
KINDS = ("layer", "qconv", "qmatmul", "chain", "nbits", "half")
SIZES = [1 << n for n in range(17, 26, 2)]
"""Bytes at which the speed of reading is measured: inside each cache and outside of all."""
PREPARED = ("_pad", "_border", "_reordered", "_signed", "pack_")
"""In the names of steps that only move a layer's input."""
REQUANTISED = 5.75
"""Instructions that make bytes of four sums: bias, conversion, scale, rounding, zero point, packing."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """What the cores do at most: billion multiply-add and byte-product operations, GB/s by bytes read."""

    peak: float
    dots: float
    reading: dict[int, float]

    def of(self, op: Op) -> float:
        """The peak of the operator's arithmetic: a depthwise sum is no dot product."""
        narrow = op.kind in ("qconv", "qmatmul", "chain") and op.attrs.get("group", 1) == 1
        return self.dots if narrow else self.peak


def traffic(op: Op) -> int:
    """Bytes of a layer's input, weights and output; of a chain those of its weights and of what it is fed."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(op.model), data_prop=True)
    node = next((n for n in model.graph.node if n.op_type in LAYERS), None)
    if node is None:
        weights = sum(onnx.numpy_helper.to_array(t).nbytes for t in model.graph.initializer)
        return weights + sum(x.nbytes for x in op.feeds.values())
    shapes = {
        v.name: (tuple(d.dim_value for d in v.type.tensor_type.shape.dim), v.type.tensor_type.elem_type)
        for v in (*model.graph.value_info, *model.graph.input, *model.graph.output)
    }
    shapes |= {t.name: (tuple(t.dims), t.data_type) for t in model.graph.initializer}
    found = 0
    for name in (*node.input, *node.output):
        shape, kind = shapes[name]
        found += int(np.prod(shape)) * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).itemsize
    return found


def instructions(op: Op, limits: Limits) -> float:
    """Milliseconds of one layer of bytes by the instructions it cannot do without, two dot products or three others a
    cycle: four products for each of four results a dot, then what requantises them; depthwise each dot has a
    shuffle of its own. Loads go beside. 0 for what is no such layer."""
    model = onnx.load_from_string(op.model)
    node = next((n for n in model.graph.node if n.op_type in LAYERS[1:]), None)
    if node is None:
        return 0.0
    w = next(t.dims for t in model.graph.initializer if t.name == node.input[3])
    own = op.attrs.get("group", 1) > 1
    if len(w) == 2:
        terms, dots = w[0], -(-w[0] // 4)
    else:
        # groups of four along a row of the window, or of channels
        by_row, by_channel = w[1] * -(-w[-1] // 4), w[-1] * -(-w[1] // 4)
        terms, dots = (
            int(np.prod(w[1:])),
            int(np.prod(w[2:-1])) * (by_row if own else min(by_row, by_channel)),
        )
    cycles = dots * (2 / 3 if own else 1 / 2) + REQUANTISED / 3
    # the peak is two dot products of 32 operations a cycle
    return op.flops / 2 / terms / 4 * cycles / (limits.dots / 64) / 1e6


def row(op: Op, found: dict[str, Any], limits: Limits) -> Row:
    """What is kept of a measurement; times in ms. A chain has no layer of that name: all its steps count."""
    ours = [s for s in found["steps"] if "layer" in s["nodes"] or any(p in s["name"] for p in PREPARED)]
    ours = ours if op.kind in KINDS[:3] else found["steps"]
    size, speeds, peak = traffic(op), limits.reading, limits.of(op)
    near = min(SIZES, key=lambda n: abs(np.log2(n / size)))
    kernel = max(1e-6, sum(s["ms"] for s in ours))
    arithmetic, memory = op.flops / peak / 1e6, size / speeds[near] / 1e6
    medians = {name: t["median"] for name, t in found["times"].items()}
    return {
        "name": op.name, "run": medians, "kernel": kernel,
        "all": sum(s["ms"] for s in found["steps"]), "arithmetic": arithmetic, "memory": memory, "peak": peak,
        "instructions": instructions(op, limits),
        "steps": [(s["name"], s["ms"], s["schedule"]) for s in found["steps"]],
    }  # fmt: skip


def line(r: Row) -> str:
    ours, peer = r["run"]["nnjit"], r["run"].get("onnxruntime-web")
    bound = max(r["arithmetic"], r["memory"])
    text = f"{r['name']:42s} run {ours:7.3f}"
    if peer:
        text += (
            f"  ort {peer:7.3f} {peer / ours:5.2f}x, over all our steps {peer / max(r['all'], 1e-6):5.2f}x,"
            f" ceiling {peer / bound:5.2f}x"
        )
    text += f"  layer {r['kernel']:7.3f} ms {100 * r['arithmetic'] / r['kernel']:4.0f}% of peak"
    text += f" {100 * bound / r['kernel']:4.0f}% of roofline"
    return text + (
        f" {100 * r['instructions'] / r['kernel']:4.0f}% of instructions" if r["instructions"] else ""
    )


def main(
    lab: Lab,
    text: str,
    libraries: list[str],
    threads: int,
    how: dict[str, Any],
    job: Callable[[Lab, Op, int], str],
    machine: Callable[[int], Limits],
    results: Path,
    verbose: bool,
) -> int:
    """Measures the layers whose name holds `text` and prints a line each; a geometric mean at the end."""
    limits = machine(threads)
    print(f"{threads} thread(s): FMA peak {limits.peak:.1f} GFLOP/s, of bytes {limits.dots:.0f}; reading, GB/s: "
          + ", ".join(f"{n >> 10} KiB {rate:.0f}" for n, rate in limits.reading.items()), flush=True)  # fmt: skip
    page: Page = lab.page("t/bench/bench.html")
    page.evaluate(
        """async ([names, threads]) => {
          window.layers = await import('/t/bench/convolutions.js');
          await layers.start(names, threads);
        }""",
        [[n for n in libraries if n in ("nnjit", "onnxruntime-web")], threads],
    )
    rows: list[Row] = []
    for number, op in enumerate(all_ops().values()):
        if op.kind not in KINDS or not any(t in op.name for t in text.split("|")):
            continue
        url = job(lab, op, number)
        found = page.evaluate("([url, how]) => layers.measure(url, how)", [url, how])
        rows.append(row(op, found, limits))
        print(line(rows[-1]), flush=True)
        for name, ms, schedule in rows[-1]["steps"] if verbose else ():
            print(f"      {ms:7.3f} ms  {name[:44]:44s} {schedule}")
    peers = [r for r in rows if "onnxruntime-web" in r["run"]]
    if peers:
        ratios = [r["run"]["onnxruntime-web"] / r["run"]["nnjit"] for r in peers]
        kernels = [r["run"]["onnxruntime-web"] / max(r["all"], 1e-3) for r in peers]
        most = [r["run"]["onnxruntime-web"] / max(r["arithmetic"], r["memory"]) for r in peers]
        print(f"geometric mean over {len(peers)} layers: run() {geometric_mean(ratios):.2f}x, all our steps against "
              f"its run() {geometric_mean(kernels):.2f}x, ceiling {geometric_mean(most):.2f}x")  # fmt: skip
    results.mkdir(exist_ok=True)
    path = results / f"layers-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps({"threads": threads, **asdict(limits), "rows": rows}, indent=1) + "\n")
    page.context.close()
    return 0
