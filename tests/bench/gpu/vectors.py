"""A row by a matrix on WebGPU, in f32, f16, 8 and 4 bits: matrices read in turn, so that none comes out of a cache.

Takes the Bench, fills "vectors" and "copy GB/s" of its result: of every candidate, of copies and of reads. Weights of
few bits also in the first schedules of the tuner's list, some of which have the row in digits (`schedule/digits`).
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from nnjit.codegen.schedule.gpu_rules import gpu_schedule
from nnjit.codegen.spec import KernelSpec
from nnjit.tune.space_gpu import gpu_space
from tests.bench.gpu.page import Bench
from tests.bench.gpu.specs import BLOCK, bits_spec, candidates, copy_spec, product_spec, read_shader


def vectors(bench: Bench) -> None:
    """A row by a matrix: each time another one, so that none comes out of a cache."""
    size = min(64 << 20, bench.target.max_binding_bytes // 8)
    copy = copy_spec(size)
    shader = bench.shader(copy, gpu_schedule(copy, bench.target))
    rate = bench.page.evaluate("(s) => bench.copyRate(s)", shader)
    bench.result["copy GB/s"] = rate
    bench.say(f"copy: {rate:.0f} GB/s")
    bench.result["vectors"] = rows = []
    for size in bench.options.vector.split(","):
        k, n = map(int, size.split("x"))
        for dtype in bench.options.types.split(","):
            if dtype == "f16" and not bench.target.half:
                continue
            for right in ("kn", "nk") if dtype[0] == "f" else ("nk",):
                rows.append(_vector(bench, dtype, right, k, n))
                bench.save()


def _vector(bench: Bench, dtype: str, right: str, k: int, n: int) -> dict[str, Any]:
    bits = int(dtype[0]) if dtype[0] != "f" else 0
    spec = bits_spec(k, n, bits) if bits else product_spec(1, k, n, dtype, right, constant=True)
    nbytes = k * n * (bits or int(dtype[1:])) // 8 + (4 * n * (k // BLOCK) if bits else 0)
    how = {"m": 1, "k": k, "n": n, "right": right}
    row: dict[str, Any] = {
        "shape": [1, k, n],
        "dtype": dtype,
        "right": right,
        "nbytes": nbytes,
        "candidates": [],
    }
    for schedule in candidates(spec, bench.target, bench.options.vectors):
        one = bench.candidate(spec, schedule, lambda shader: _cold(bench, shader, 1, how, bits))
        if "ms" in one:
            one["GB/s"] = nbytes / one["ms"] / 1e6
        row["candidates"].append(one)
    good = [
        c["GB/s"] for c in row["candidates"] if "ms" in c and c["error"] < (2e-3 if dtype == "f16" else 1e-4)
    ]
    first = row["candidates"][0]
    if bits:
        row["listed"] = _listed(bench, spec, how, bits, nbytes)
    row["default"], row["best"] = first.get("GB/s"), max(good, default=None)
    bench.forget()
    row |= _as_many_bytes(bench, n, nbytes)
    rates = "  ".join(
        f"{x} {row[x]:.0f}" for x in ("default", "best", "floats", "copy", "read") if row.get(x)
    )
    bench.say(f"row by {k}x{n} {dtype} {right}: {rates} GB/s")
    if found := best_listed(row):
        bench.say(f"  listed {found['GB/s']:.0f} GB/s, off by {found['error']:.1e}: {found['schedule']}")
    return row


def _listed(
    bench: Bench, spec: KernelSpec, how: dict[str, Any], bits: int, nbytes: int
) -> list[dict[str, Any]]:
    """Lines as the candidates', of the schedules that the tuner would try, the rules' own left out."""
    lines = []
    for schedule in islice(gpu_space(spec, bench.target).lite(), 1, 1 + bench.options.listed):
        one = bench.candidate(spec, schedule, lambda shader: _cold(bench, shader, 1, how, bits))
        if "ms" in one:
            one["GB/s"] = nbytes / one["ms"] / 1e6
        lines.append(one)
    return lines


def best_listed(row: dict[str, Any]) -> dict[str, Any] | None:
    """The fastest right one of a row's lines of the tuner's list; None where there is none."""
    right = [c for c in row.get("listed", row.get("digits", ())) if "ms" in c and c["error"] < 1e-4]
    return max(right, key=lambda c: float(c["GB/s"]), default=None)


def _as_many_bytes(bench: Bench, n: int, nbytes: int) -> dict[str, Any]:
    """GB/s over as many cold bytes where nothing is to be unpacked: floats that lie along the sum, a copy, which
    reads one half and writes the other, and reads alone."""
    floats = product_spec(1, nbytes // n // 16 * 4, n, "f32", "nk", constant=True)
    copy = copy_spec(nbytes // 32 * 4)
    shaders = {
        name: (bench.shader(spec, gpu_schedule(spec, bench.target)), cold)
        for name, spec, cold in (("floats", floats, 1), ("copy", copy, 0))
    }
    out: dict[str, Any] = {}
    for name, (shader, cold) in {**shaders, "read": (read_shader(nbytes), 0)}.items():
        try:
            ms = _cold(bench, shader, cold)["ms"]
            out[name] = sum(b["nbytes"] for b in shader["bindings"]) / ms / 1e6
        except Exception as error:
            out[f"{name} failed"] = str(error)[:400]
        bench.forget()
    return out


def _cold(
    bench: Bench, shader: dict[str, Any], cold: int, how: dict[str, Any] | None = None, bits: int = 0
) -> dict[str, Any]:
    """Times a shader whose operand `cold` is another buffer in every turn."""
    arguments = [shader, cold, bench.options.cold << 20, how, bits]
    found: dict[str, Any] = bench.page.evaluate("(a) => bench.timeCold(...a)", arguments)
    return found
