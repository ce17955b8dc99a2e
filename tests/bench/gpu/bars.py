"""What was aimed at on the GPU beside what records say was reached: a line a bar."""

from __future__ import annotations

from typing import Any

from tests.bench.first_samples import sooner
from tests.bench.gpu.rows import cpu_of, cublas_of, markdown, mean, name_of, reached, step_and_run

Row = dict[str, Any]


def bars(parts: Row) -> str:
    """What was asked for and what was reached."""
    rows: list[list[str]] = []

    def bar(what: str, asked: str, found: str, good: bool) -> None:
        rows.append([what, asked, found, "yes" if good else "no"])

    if "products" in parts:
        peers = ("tfjs", "onnxruntime-web")
        best = {name_of(r): max(r["tflops"].get(p) or 0.0 for p in peers) for r in parts["products"]}
        lead = {name_of(r): reached(r) / best[name_of(r)] for r in parts["products"] if best[name_of(r)]}
        if lead:
            least = min(lead, key=lambda n: lead[n])
            bar("f32 over the better peer", "each 1.2", f"{lead[least]:.2f} at {least}", lead[least] >= 1.2)
        bound = cublas_of(parts, "f32")
        share = {tuple(r["shape"]): reached(r) / bound[tuple(r["shape"])]
                 for r in parts["products"] if tuple(r["shape"]) in bound}  # fmt: skip
        if share:
            large = [v for s, v in share.items() if min(s) >= 2048]
            if large:
                found = ", ".join(f"{v:.0%}" for v in large)
                bar("f32 of cuBLAS, 2048³ and 4096³", "80%", found, min(large) >= 0.8)
            bar(
                "f32 of cuBLAS, geometric mean",
                "65%",
                f"{mean([*share.values()]):.0%}",
                mean([*share.values()]) >= 0.65,
            )
    for key, name, asked in (("products f16", "f16", 150), ("products i8", "i8", 200)):
        for r in parts.get(key, []):
            if r["shape"] == [4096, 4096, 4096]:
                bar(f"{name} at 4096³", f"{asked} T", f"{reached(r):.0f}", reached(r) >= asked)
    if "products f16" in parts:
        ratio = [reached(r) / r["tflops"]["onnxruntime-web"] for r in parts["products f16"]
                 if r["tflops"].get("onnxruntime-web")]  # fmt: skip
        bar("f16 over onnxruntime-web", "4, geometric mean", f"{mean(ratio):.1f}", mean(ratio) >= 4)
    for r in parts.get("vectors", []):
        if r["shape"] == [1, 4096, 4096]:
            rate = r["default"] or 0.0
            share_of, near = rate / parts["copy GB/s"], rate / r.get("copy", float("inf"))
            bar(
                f"a row, {r['dtype']} {r['right']}",
                "70% of a copy",
                f"{share_of:.0%}, {near:.0%} of one as large",
                share_of >= 0.7,
            )
    for r in parts.get("attention", []):
        if r["shape"] != [12, 384, 64] and r.get("onnxruntime-web"):
            times = r["onnxruntime-web"]["ms"] / (r.get("nnjit") or {}).get("ms", float("inf"))
            bar(f"attention {'×'.join(map(str, r['shape']))} {r['dtype']}", "3", f"{times:.1f}", times >= 3)
    both = [r for r in parts.get("models", []) if "ms" in r.get("onnxruntime-web", {})]
    if both:
        ratios = {r["model"]: r["onnxruntime-web"]["ms"] / r["nnjit"]["ms"] for r in both}
        slowest = min(ratios, key=lambda n: ratios[n])
        bar(
            "models, geometric mean",
            "3",
            f"{mean([*ratios.values()]):.2f} of {len(ratios)}",
            mean([*ratios.values()]) >= 3,
        )
        bar("models, the least", "1.5", f"{ratios[slowest]:.2f} {slowest}", ratios[slowest] >= 1.5)
    found = sooner(parts.get("first", [])) or sooner(both)  # of several pages, where there are
    if found:
        bar("first result no later", "all", f"{sum(found.values())} of {len(found)}", all(found.values()))
    if parts.get("spaces"):
        worst = max(r["best"] for r in parts["spaces"])
        bar("best listed over the best of all", "103%", f"{worst:.1%}", worst <= 1.03)
    for r in parts.get("dispatch", []):
        if r["model"] == "chain":
            cpu, apart = cpu_of(r), step_and_run(parts["dispatch"])
            alone = f"; {apart[0]:.2f} without a run's own" if apart else ""
            bar("CPU time a step", "5 µs", f"{cpu:.2f}{alone}", cpu <= 5)
    return markdown(("what", "bar", "reached", ""), rows)
