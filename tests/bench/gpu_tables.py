"""The tables of docs/webgpu-measured.md, from the records of GPU runs.

    python3 -m tests.bench.gpu_tables RECORD.json [RECORD.json ...]            prints them
    python3 -m tests.bench.gpu_tables --docs RECORD.json [RECORD.json ...]     puts them into docs/webgpu-measured.md

Takes records that gpu.py writes, and the gpu-spaces.json of `serve.py tune --backend webgpu --sample N`; where several
hold the same part, the last one's counts (models: the last of each). Gives Markdown: a table for each part, and what
each bar asks for beside what was reached. On the page a table stands between <!-- PART --> and <!-- end -->, with the
record that it is from.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from math import exp, log
from pathlib import Path
from typing import Any

Row = dict[str, Any]
DOCS = Path(__file__).parents[2] / "docs/webgpu-measured.md"


def merged(paths: Iterable[Path]) -> dict[str, Any]:
    """The parts of all records; of models each by its name."""
    out: dict[str, Any] = {}
    models: dict[str, Row] = {}
    for path in paths:
        record = json.loads(path.read_text())
        if isinstance(record, list):
            out["spaces"] = record
            continue
        for part, value in record["results"].items():
            if part == "models":
                models |= {row["model"]: row for row in value if "ms" in row.get("nnjit", {})}
            else:
                out[part] = value
    return out | ({"models": list(models.values())} if models else {})


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
        rate = row["default"] or 0.0
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
            f"{theirs['ms']:.2f}" if theirs else "–", f"{theirs['ms'] / ours['ms']:.1f}" if theirs else "–",
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
        rows.append([row["model"], f"{ours['ms']:.1f}", f"{kernels:.1f}", *peer, first])
    return markdown(
        ("model", "nnjit, ms", "of it kernels", "onnxruntime-web, ms", "ratio", "first result, ms"), rows
    )


def dispatch(parts: Row) -> str:
    row = next(r for r in parts["dispatch"] if r["model"] == "chain")
    names = ("wall us", "page us", "encode us", "gpu process us")
    cpu = row["page us"] + row["gpu process us"]
    return markdown((*names, "CPU in all"), [[*(f"{row[n]:.2f}" for n in names), f"{cpu:.2f}"]])


def spaces_table(rows: Sequence[Row]) -> str:
    """Of what gpu_tune.py's `sample` writes."""
    head = (
        "family", "kernel", "raw choices", "listed", "others that fit", "the rules' own over the best",
        "best listed over the best", "its place", "all listed, s",
    )  # fmt: skip
    return markdown(head, (
        [r["family"], r["kernel"], f"{r['raw']:,}", str(r["listed"]), f"{'all ' if r['whole'] else ''}{r['others']}",
         f"{r['default']:.1%}", f"{r['best']:.1%}", str(r["at"] + 1), f"{r['seconds']:.1f}"]
        for r in rows
    ))  # fmt: skip


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
        sooner = [r["model"] for r in both if r["nnjit"]["firstMs"] <= r["onnxruntime-web"]["firstMs"]]
        bar("first result no later", "all", f"{len(sooner)} of {len(both)}", len(sooner) == len(both))
    if "spaces" in parts:
        worst = max(r["best"] for r in parts["spaces"])
        bar("best listed over the best of all", "103%", f"{worst:.1%}", worst <= 1.03)
    for r in parts.get("dispatch", []):
        if r["model"] == "chain":
            cpu = r["page us"] + r["gpu process us"]
            bar("CPU time a step", "5 µs", f"{cpu:.2f}", cpu <= 5)
    return markdown(("what", "bar", "reached", ""), rows)


TABLES: dict[str, Callable[[Row], str]] = {
    "products": products,
    "products f16": lambda p: narrow(p, "products f16", "f16"),
    "vectors": vectors,
    "products i8": lambda p: narrow(p, "products i8", "i8"),
    "attention": attention,
    "dispatch": dispatch,
    "models": models,
    "spaces": lambda p: spaces_table(p["spaces"]),
}


def tables(paths: Sequence[Path]) -> dict[str, str]:
    """Of each part that the records hold, with the name of the last one that does; and of the bars."""
    parts = merged(paths)
    out = {"bars": bars(parts)}
    for key, table in TABLES.items():
        if parts.get(key):
            held = [path.name for path in paths if merged([path]).get(key)]
            names = ", ".join(f"`{name}`" for name in (held if key == "models" else held[-1:]))
            out[key] = f"{table(parts)}\n\n({names})"
    return out


def in_docs(text: str, found: dict[str, str]) -> str:
    """The text with its tables renewed; of a part that was not measured it stays as it is."""
    for key, table in found.items():
        begin = f"<!-- {key} -->\n"
        if begin in text:
            before, rest = text.split(begin, 1)
            text = f"{before}{begin}{table}\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}"
    return text


def main(arguments: Sequence[str]) -> None:
    found = tables([Path(a) for a in arguments if a != "--docs"])
    if "--docs" in arguments:
        DOCS.write_text(in_docs(DOCS.read_text(), found))
        return
    print("\n\n".join(f"{key}\n\n{table}" for key, table in found.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
