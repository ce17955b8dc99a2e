"""Products on WebGPU: every candidate by timestamps, beside the peers' and cuBLAS.

Each part takes the Bench, fills its `result` and says a line a shape.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.gpu_parts import split_of
from nnjit.codegen.schedule.gpu_rules import gpu_schedule
from nnjit.codegen.schedule.split import Split, halves
from nnjit.codegen.schedule.steps import describe
from nnjit.codegen.spec import KernelSpec
from tests.bench.gpu.page import Bench
from tests.bench.gpu.specs import candidates, half_sum_candidates, product_spec

SHAPES = (
    (128, 768, 3072), (640, 768, 2304), (640, 3072, 768), (384, 768, 768), (1024, 1024, 1024), (2048, 2048, 2048),
    (4096, 4096, 4096), (127, 511, 1023), (1, 768, 3072), (17, 1000, 333), (384, 64, 384), (50, 2048, 1000),
    (3136, 64, 64), (12544, 27, 32), (49, 960, 160), (384, 3072, 768), (49, 4608, 512),
)  # fmt: skip
BYTES = ((4096, 4096, 4096), (1024, 1024, 1024), (640, 768, 2304), (128, 768, 3072))


def cublas(bench: Bench) -> None:
    """The same products by PyTorch on the same card, where the machine has it."""
    if importlib.util.find_spec("torch") is None:
        bench.result["cublas left out"] = "there is no PyTorch"
        bench.say("cublas: there is no PyTorch")
        return
    shapes = wanted(bench)
    half = [("f16", *s) for s in shapes if s[0] >= 128]
    sizes = [tuple(map(int, size.split("x"))) for size in bench.options.vector.split(",")]
    asked = {"products": [("f32", *s) for s in shapes] + half,
             "vectors": [(d, *size) for d in ("f32", "f16") for size in sizes]}  # fmt: skip
    script = Path(__file__).parent / "cublas.py"
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(asked)], capture_output=True, text=True, check=True
    )
    bench.result["cublas"] = json.loads(done.stdout)
    for dtype, m, k, n, ms in bench.result["cublas"]["products"]:
        bench.say(f"cuBLAS {dtype} {m}x{k}x{n}: {2 * m * k * n / ms / 1e9:.1f} TFLOP/s")


def wanted(bench: Bench) -> list[tuple[int, int, int]]:
    """Rows, sum and columns of the products that are wanted."""
    given = [tuple(map(int, s.split("x"))) for s in bench.options.shapes.split(",") if s]
    return [(m, k, n) for m, k, n in given] or list(SHAPES)


def products(bench: Bench) -> None:
    most = bench.options.candidates
    bench.result["products"] = rows = []
    for shape in wanted(bench):
        rows.append(product(bench, *shape, "f32", "kn", most))
        bench.save()
    if bench.target.half:
        bench.result["products f16"] = rows = []
        for shape in (s for s in wanted(bench) if s[0] >= 128):
            rows.append(product(bench, *shape, "f16", "kn", min(most, 6)))
            bench.save()


def half_sums(bench: Bench) -> None:
    """Products of f16 in subgroup matrices, with sums of f32 and with sums of f16."""
    most = bench.options.candidates
    bench.result["half sums"] = rows = []
    for shape in (s for s in wanted(bench) if s[0] >= 128):
        row = product(bench, *shape, "f16", "kn", most, peers=False)
        row["sums of f16"] = in_half_sums(bench, *shape, most, row)
        rows.append(row)
        bench.save()


def in_bytes(bench: Bench) -> None:
    """Products of i8 with sums of i32, words on both sides as a kernel before made them."""
    bench.result["products i8"] = rows = []
    for m, k, n in wanted(bench) if bench.options.shapes else BYTES:
        rows.append(product(bench, m, k, n, "i8", "nk", bench.options.candidates, peers=False))
        bench.save()


def product(
    bench: Bench, m: int, k: int, n: int, dtype: str, right: str, most: int, peers: bool = True
) -> dict[str, Any]:
    """All candidates of a shape, the peers beside them."""
    spec, how = product_spec(m, k, n, dtype, right), {"m": m, "k": k, "n": n, "right": right}
    flops = 2 * m * k * n
    row: dict[str, Any] = {"shape": [m, k, n], "dtype": dtype, "right": right, "candidates": []}
    for schedule in candidates(spec, bench.target, most):
        one = bench.candidate(spec, schedule, lambda shader: bench.timed(shader, how))
        if "ms" in one:
            one["tflops"] = flops / one["ms"] / 1e9
        row["candidates"].append(one)
    split = split_of(spec, bench.target)
    if split is not None:
        row["split"] = _split(bench, spec, split, flops)
    limit = 2e-3 if dtype == "f16" else 1e-4  # of i8: exact
    good = [c for c in row["candidates"] if "ms" in c and c["error"] < limit]
    first = row["candidates"][0]
    row["default"] = first["ms"] if first in good else None
    row["best"] = min((c["ms"] for c in good), default=None)
    queued = 50 if flops < 2e10 else 20
    if bench.options.peers and peers:
        if dtype == "f32":
            row["tfjs"] = _peer(bench, "([p, q]) => bench.tfProduct(p, q)", [how, queued])
        row["onnxruntime-web"] = _ort(bench, m, k, n, dtype, right, queued)
    bench.forget()
    rate = {
        name: flops / row[name] / 1e9
        for name in ("default", "best", "tfjs", "onnxruntime-web")
        if row.get(name)
    }
    row["tflops"] = rate
    rates = "  ".join(f"{name} {value:.2f}" for name, value in rate.items())
    bench.say(f"{dtype} {m}x{k}x{n} {right}: {rates} TFLOP/s")
    return row


def in_half_sums(
    bench: Bench, m: int, k: int, n: int, most: int, row: dict[str, Any]
) -> list[dict[str, Any]]:
    """The same product of f16 by matrices whose sums are f16 for a while, each tile by stretches of three lengths;
    `row`: the product's own, with sums of f32."""
    spec, how = product_spec(m, k, n, "f16", "kn"), {"m": m, "k": k, "n": n, "right": "kn"}
    found = []
    for schedule in half_sum_candidates(spec, bench.target, most):
        one = bench.candidate(spec, schedule, lambda shader: bench.timed(shader, how))
        if "ms" in one:
            one["tflops"] = 2 * m * k * n / one["ms"] / 1e9
        found.append(one)
    bench.forget()
    good = [c for c in found if "ms" in c and c["error"] < 2e-3]
    if not found:
        bench.say("  sums of f16: this adapter lists no such matrices")
    elif not good:
        bench.say(f"  sums of f16: none of {len(found)} is right: {found[0]}")
    else:
        best = min(good, key=lambda c: c["ms"])
        bench.say(
            f"  sums of f16: {best['tflops']:.2f} TFLOP/s, error {best['error']:.2g}, {best['schedule']} "
            f"(of f32 {row['tflops'].get('best', 0):.2f}; {len(good)} of {len(found)} right)"
        )
    return found


def _split(bench: Bench, spec: KernelSpec, split: Split, flops: int) -> dict[str, Any]:
    """Both kernels of a sum in parts, one after the other."""
    two = halves(spec, split)
    out: dict[str, Any] = {"parts": split.parts}
    try:
        for half in map(canonical, (two.partial, two.total)):
            schedule = gpu_schedule(half, bench.target)
            timed = bench.timed(bench.shader(half, schedule))
            out[half.name] = {"schedule": describe(schedule), "ms": timed["ms"]}
            out["ms"] = out.get("ms", 0.0) + timed["ms"]
        out["tflops"] = flops / out["ms"] / 1e9
    except Exception as error:
        out["failed"] = str(error)[:400]
    bench.say(f"  in {split.parts} parts: {out.get('tflops', 0):.2f} TFLOP/s")
    return out


def _peer(bench: Bench, script: str, arguments: list[Any]) -> float | None:
    try:
        return float(bench.page.evaluate(script, arguments))
    except Exception as error:  # a peer that cannot do it is left out
        bench.say(f"  a peer failed: {str(error)[:200]}")
        return None


def _ort(bench: Bench, m: int, k: int, n: int, dtype: str, right: str, queued: int) -> float | None:
    kind = TensorProto.FLOAT16 if dtype == "f16" else TensorProto.FLOAT
    node = helper.make_node("Gemm", ["a", "b"], ["y"], transB=int(right != "kn"))
    dims = [[m, k], [k, n] if right == "kn" else [n, k]]
    inputs = [helper.make_tensor_value_info(name, kind, d) for name, d in zip("ab", dims, strict=True)]
    graph = helper.make_graph([node], "p", inputs, [helper.make_tensor_value_info("y", kind, [m, n])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    url = bench.lab.site.put("~/bench-product.onnx", model.SerializeToString())
    url = f"{url}?{m}.{k}.{n}.{dtype}.{right}"
    name = "float16" if dtype == "f16" else "float32"
    found = bench.resident("onnxruntime-web", url, dims, name, queued)
    return found["ms"] if found else None
