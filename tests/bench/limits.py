"""The machine's limits, measured in the page in which the libraries run: multiply-adds, dot products of bytes, memory.

`machine` is what a result says of the machine it comes from.
"""

from __future__ import annotations

import math
import os
import platform
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.bench import peak
from tests.support.browser import Lab


def open_page(lab: Lab, libraries: list[str], threads: int) -> tuple[Page, dict[str, str]]:
    page = lab.page("t/bench/bench.html")
    page.wait_for_function("window.bench && window.tf")
    failed: dict[str, str] = page.evaluate("([names, n]) => bench.start(names, n)", [libraries, threads])
    return page, failed


def fma_peak(page: Page, lab: Lab, threads: int) -> float:
    """GFLOP/s of the multiply-add loop, on so many cores at once."""
    url = lab.site.put("bench/peak.wasm", peak.module())
    rate: float = page.evaluate("(given) => bench.peak(...given)", [url, peak.FLOPS_PER_ROUND, threads])
    return rate


def dot_peak(page: Page, lab: Lab, threads: int) -> float:
    """Billion operations a second of the loop of byte products, on so many cores at once."""
    url = lab.site.put("bench/dots.wasm", peak.dots())
    rate: float = page.evaluate("(given) => bench.peak(...given)", [url, peak.DOT_OPS_PER_ROUND, threads])
    return rate


def read_rate(page: Page, lab: Lab, size: int, threads: int) -> float:
    """GB/s at which so many cores at once read `size` bytes."""
    url = lab.site.put("bench/read.wasm", peak.reader())
    rate: float = page.evaluate("(given) => bench.bandwidth(...given)", [url, size, threads])
    return rate


def memory_rates(
    page: Page, lab: Lab, size: int, threads: int, known: dict[int, tuple[float, float]]
) -> tuple[float, float]:
    """GB/s at which so many cores read, and copy, about `size` bytes: as many as the nearest power of two."""
    near = 1 << round(math.log2(max(size, 1 << 16)))
    if near not in known:
        url = lab.site.put("bench/copy.wasm", peak.copier())
        copying: float = page.evaluate("(given) => bench.bandwidth(...given)", [url, near, threads])
        known[near] = read_rate(page, lab, near, threads), copying
    return known[near]


def machine(lab: Lab) -> dict[str, Any]:
    cpu = next(
        (x.split(":")[1].strip() for x in cpu_info() if x.startswith("model name")), platform.machine()
    )
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "browser": lab.label,
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),  # other work on the machine shows in every number
        "libraries": {"onnxruntime-web": "1.30.0", "tfjs": "4.22.0", "jax-js": "0.1.25"},
    }


def cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
