"""The parts of a GPU bench as Markdown: each function takes the parts of records as tables.merged gives them and
returns the table of one part of docs/webgpu-measured.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, log
from statistics import median
from typing import Any

from tests.bench.first_samples import shown, times
from tests.bench.gpu.decode import FIRST
from tests.bench.gpu.readback import table as readback_table
from tests.bench.gpu.vectors import best_listed

Row = dict[str, Any]


def mean(values: Sequence[float]) -> float:
    """Geometric; nothing was reached where one of them is 0."""
    if not values or min(values) <= 0:
        return 0.0
    return exp(sum(map(log, values)) / len(values))


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(r)} |" for r in (head, ["---"] * len(head), *rows))


def name_of(row: Row) -> str:
    m, k, n = row["shape"]
    return f"{m}³" if m == k == n else f"{m} {k} {n}"


def reached(row: Row) -> float:
    """TFLOP/s of what the rules choose: in parts where they split the sum."""
    return float(row.get("split", {}).get("tflops") or row["tflops"].get("default", 0.0))


def cublas_of(parts: Row, dtype: str) -> dict[tuple[int, ...], float]:
    found = parts.get("cublas", {}).get("products", [])
    return {(m, k, n): 2 * m * k * n / ms / 1e9 for d, m, k, n, ms in found if d == dtype}


def products(parts: Row) -> str:
    bound = cublas_of(parts, "f32")
    rows = []
    for row in parts["products"]:
        theirs, split = bound.get(tuple(row["shape"])), row.get("split")
        rate = row["tflops"]
        rows.append([
            name_of(row) + (f", in {split['parts']} parts" if split else ""), f"{reached(row):.1f}",
            f"{theirs:.1f}" if theirs else "", f"{reached(row) / theirs:.0%}" if theirs else "",
            f"{rate.get('best', 0):.1f}", *(f"{rate.get(p, 0):.2g}" for p in ("tfjs", "onnxruntime-web")),
        ])  # fmt: skip
    return markdown(
        ("m k n", "nnjit", "cuBLAS", "share", "best listed, one part", "TF.js", "onnxruntime-web"), rows
    )


def narrow(parts: Row, key: str, dtype: str) -> str:
    bound = cublas_of(parts, dtype)
    rows = []
    for row in parts[key]:
        theirs, split = bound.get(tuple(row["shape"])), row.get("split")
        peer = row["tflops"].get("onnxruntime-web")
        rows.append([
            name_of(row) + (f", in {split['parts']} parts" if split else ""), f"{reached(row):.0f}",
            f"{row['tflops'].get('best', 0):.0f}", f"{theirs:.0f}" if theirs else "–",
            f"{peer:.1f}" if peer else "–", f"{reached(row) / peer:.1f}" if peer else "–",
        ])  # fmt: skip
    return markdown(("m k n", "nnjit", "best listed, one part", "cuBLAS", "onnxruntime-web", "ratio"), rows)


def vectors(parts: Row) -> str:
    copy, rows = parts["copy GB/s"], []
    for row in parts["vectors"]:
        lies = {"nk": "along the sum", "kn": "along the columns"}[row["right"]]
        what = f"{row['dtype']} in blocks of 32" if "bits" in row["dtype"] else f"{row['dtype']} {lies}"
        ways = [(what, row["default"] or 0.0)]
        if best := best_listed(row):
            ways.append(
                (
                    f"the same, the best of {len(row.get('listed') or row['digits'])} that the tuner tries",
                    best["GB/s"],
                )
            )
        for what, rate in ways:
            near = [f"{row[x]:,.0f}" if row.get(x) else "–" for x in ("copy", "floats", "read")]
            share = [f"{rate / row[x]:.0%}" if row.get(x) else "–" for x in ("copy", "read")]
            size = "×".join(map(str, row["shape"][1:]))
            rows.append([size, what, f"{rate:,.0f}", f"{rate / copy:.0%}", *near, *share])
    head = (
        "sum × columns", "weights", "GB/s", f"of the large copy ({copy:,.0f})", "a copy of as many bytes",
        "floats of as many bytes", "reads alone", "of that copy", "of those reads",
    )  # fmt: skip
    return markdown(head, rows)


def attention(parts: Row) -> str:
    rows = []
    for row in parts["attention"]:
        ours, theirs = (row.get(n) or {} for n in ("nnjit", "onnxruntime-web"))
        first = row["candidates"][0] if row["candidates"] else {}
        rows.append([
            " × ".join(map(str, row["shape"])), row["dtype"], f"{ours.get('ms', 0):.2f}",
            f"{theirs['ms']:.2f}" if theirs else "–", f"{theirs['ms'] / ours['ms']:.1f}" if theirs and ours else "–",
            f"{first.get('tflops', 0):.1f}", f"{row.get('difference', float('nan')):.1e}",
        ])  # fmt: skip
    head = ("heads × length × depth", "type", "nnjit, ms", "onnxruntime-web, ms", "ratio",
            "kernel alone, TFLOP/s", "difference")  # fmt: skip
    return markdown(head, rows)


def models(parts: Row) -> str:
    rows = []
    for row in parts["models"]:
        ours, theirs = row["nnjit"], row.get("onnxruntime-web", {})
        kernels = sum(s["ms"] for s in ours.get("profile", {}).get("steps", []))
        peer = [f"{theirs['ms']:.1f}", f"{theirs['ms'] / ours['ms']:.1f}"] if "ms" in theirs else ["–", "–"]
        first = f"{ours['firstMs']:,.0f} / {theirs['firstMs']:,.0f}" if "ms" in theirs else "–"
        steps = len(ours.get("profile", {}).get("steps", []))
        both = [r.get("stays") for r in (ours, theirs)]
        stays = " / ".join(f"{ms:.1f}" if ms else "–" for ms in both) if any(both) else "–"
        rows.append([row["model"], f"{ours['ms']:.1f}", f"{kernels:.1f}", str(steps), *peer, first, stays])
    head = ("model", "nnjit, ms", "of it kernels", "steps", "onnxruntime-web, ms", "ratio", "first result, ms",
            "outputs left on the GPU, ms")  # fmt: skip
    return markdown(head, rows)


def first(parts: Row) -> str:
    """Stages of nnjit's way to a first result, of a row each that first.py wrote: those of the median's page, and the
    least and the most of first results where there were more pages."""
    rows = []
    for row in parts["first"]:
        ours, theirs = row["nnjit"], row.get("onnxruntime-web", {})
        if "failed" in ours:
            rows.append([row["model"], ours["failed"][:80], *[""] * 6])
            continue
        stages, made = ours["stages"], ours["pipelines"]
        file = stages.get("model")
        written = stages.get("compile", {}).get("to", 0)
        shaders = "–"
        if made:
            ready = max(p["asked"] + p["ms"] for p in made)
            shaders = f"{len(made)}: {ready:.0f} ({max(p['ms'] for p in made):.0f})"
        peer = [
            f"{theirs['createMs']:.0f}" if "createMs" in theirs else "–",
            shown(times(row, "onnxruntime-web")),
        ]
        span = f"{file['from']:.0f}–{file['to']:.0f}" if file else "–"
        parsed = f"{stages.get('parse', {}).get('to', 0):.0f}"
        rows.append(
            [
                row["model"],
                span,
                parsed,
                f"{written:.0f}",
                shaders,
                f"**{shown(times(row, 'nnjit'))}**",
                *peer,
            ]
        )
    head = ("model", "the file comes", "graph read", "kernels written", "shaders ready (longest)", "first result",
            "onnxruntime-web: create", "first result")  # fmt: skip
    return markdown(head, rows)


def decode(parts: Row) -> str:
    """Of decode.py: a row for each library and each way of its caches."""
    rows = []
    for row in parts["decode"]["rows"]:
        where = "stay on the GPU" if row["stays"] else "come to the page"
        if "failed" in row:
            rows.append([row["library"], where, row["failed"][:80], *[""] * 4])
            continue
        later = row["ms"][FIRST:]
        plans = [str(row[k]) if row.get(k) is not None else "–" for k in ("plans", "steps")]
        rows.append(
            [
                row["library"],
                where,
                f"{row['ms'][0]:.1f}",
                f"{median(later):.2f}" if later else "–",
                f"{max(later):.1f}" if later else "–",
                *plans,
            ]
        )
    head = ("library", "caches", "prompt, ms", "a token, ms", "worst token", "plans", "steps of the last")
    return markdown(head, rows)


def suite(parts: Row) -> str:
    """Of suite.py."""
    row = parts["suite"]
    failed = "; ".join(name.split(":")[0] for name in row["failed"]) or "none"
    return markdown(("tests passed", "left out", "failed", "s"),
                    [[str(row["passed"]), str(len(row["skipped"])), failed, f"{row['seconds']:.0f}"]])  # fmt: skip


def tuned(parts: Row) -> str:
    """Of logs of `serve.py tune`: what was tried and kept of kernels, and of the forms of nodes."""
    rows = []
    for study in parts["tuned"]:
        status, events = study["head"]["status"], study["events"]
        forms = [e for e in events if e["kind"] == "form"]
        plans = sum(e["kind"] == "plan" and e["name"] == "replaced" for e in events)
        trials = [e for e in events if e["kind"] == "trial" and "emitMs" in e]
        times = [
            f"{median([e[k] for e in trials if e.get(k)] or [0.0]):.0f}" for k in ("emitMs", "compileMs")
        ]
        rows.append([
            study["head"]["model"], str(status["candidates"]), str(status["kept"]), str(len(forms)), str(plans),
            f"{status['speedup']:.3f}", f"{status['spentMs'] / 1e3:.1f}", " + ".join(times),
            status["reason"] or status["state"],
        ])  # fmt: skip
    head = ("model", "candidates", "kept", "forms", "plans for forms", "kernels", "end, s",
            "a candidate: written + compiled, ms", "end")  # fmt: skip
    return markdown(head, rows)


def readback(parts: Row) -> str:
    return readback_table(parts["readback"])


def dispatch(parts: Row) -> str:
    row = next((r for r in parts["dispatch"] if r["model"] == "chain"), None)
    if row is None:
        return ""
    names = ("wall us", "page us", "encode us", "gpu process us")
    cells = [*(f"{row[n]:.2f}" for n in names), f"{cpu_of(row):.2f}"]
    apart = step_and_run(parts["dispatch"])
    more = [f"{apart[0]:.2f}", f"{apart[1]:,.0f}"] if apart else ["–", "–"]
    return markdown(
        (*names, "CPU in all", "of it a step by itself", "a run beside its steps, us"), [[*cells, *more]]
    )


def cpu_of(row: Row) -> float:
    """Microseconds of CPU time a step, of both processes."""
    return float(row["page us"] + row["gpu process us"])


def step_and_run(rows: Sequence[Row]) -> tuple[float, float] | None:
    """Microseconds of CPU time that each further step costs, and that a run costs whatever its steps are; of chains of
    two lengths."""
    found = {r["model"]: r for r in rows}
    long, short = found.get("chain"), found.get("short chain")
    if not long or not short:
        return None
    whole, little = (cpu_of(r) * r["steps"] for r in (long, short))
    step = (whole - little) / (long["steps"] - short["steps"])
    return step, little - step * short["steps"]


def spaces_table(rows: Sequence[Row]) -> str:
    """Of what tune.py's `sample` writes."""
    head = (
        "family", "kernel", "raw choices", "listed", "others that fit", "the rules' own over the best",
        "best listed over the best", "its place", "all listed, s",
    )  # fmt: skip
    return markdown(head, (
        [r["family"], r["kernel"], f"{r['raw']:,}", str(r["listed"]), f"{'all ' if r['whole'] else ''}{r['others']}",
         f"{r['default']:.1%}", f"{r['best']:.1%}", str(r["at"] + 1), f"{r['seconds']:.1f}"]
        for r in rows
    ))  # fmt: skip
