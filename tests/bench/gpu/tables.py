"""The tables of docs/webgpu-measured.md, from the records of GPU runs.

    python3 -m tests.bench.gpu.tables RECORD [RECORD ...]            prints them
    python3 -m tests.bench.gpu.tables --docs RECORD [RECORD ...]     puts them into docs/webgpu-measured.md

Takes what all_parts.py leaves: records of main.py and first.py, the gpu-spaces.json of `serve.py tune --backend webgpu
--sample N`, logs of `serve.py tune MODEL --backend webgpu` and of the studies live, overhead and p99. Where several
hold the same part, the last one's counts; of models, kernels and uses the last of each. Gives Markdown: a table for
each part, and what each bar asks for beside what was reached. On the page a table stands between <!-- PART -->
and <!-- end -->, with the records that it is from; these count too, before those that are given.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.claims import tables as studies
from tests.bench.gpu import rows
from tests.bench.gpu.bars import bars

Row = dict[str, Any]
DOCS = Path(__file__).parents[3] / "docs/webgpu-measured.md"
RESULTS = Path(__file__).parents[1] / "results"
SOURCES = re.compile(r"^\((`[^()]*`)\)\n<!-- end -->$", re.MULTILINE)
"""The line under a table."""


def of(path: Path) -> Row:
    """The parts that one record holds."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        if rows and rows[0].get("kind") == "head":
            return {"tuned": [{"head": rows[0], "events": [r for r in rows[1:] if r["kind"] != "run"]}]}
        kinds: dict[str, list[Row]] = {}
        for row in rows:
            kind = "p99" if "blocks" in row else "overhead" if "way" in row["how"] else "live"
            kinds.setdefault(kind, []).append(row)
        return dict(kinds)
    record = json.loads(path.read_text())
    if isinstance(record, list):
        return {"spaces": record}
    if "results" in record:
        return dict(record["results"])
    return {"first": record["rows"]} if record.get("backend") == "webgpu" else {}


ONE_OF: dict[str, Callable[[Row], Any]] = {
    "models": lambda row: row["model"],
    "first": lambda row: row["model"],
    "spaces": lambda row: (row["family"], row["kernel"]),
    "vectors": lambda row: (tuple(row["shape"]), row["dtype"], row["right"]),
    "tuned": lambda log: log["head"]["model"],
    "live": studies.live_key,
    "overhead": studies.overhead_both,
    "p99": lambda row: (row["model"], str(row["how"])),
}
"""Parts whose rows come from several records: what a row is about."""


def merged(paths: Iterable[Path]) -> tuple[Row, dict[str, list[str]]]:
    """The parts of all records, and the names of those that each is from."""
    out: Row = {}
    names: dict[str, list[str]] = {}
    several: dict[str, dict[Any, tuple[Row, str]]] = {}
    order: dict[str, None] = {}
    for path in paths:
        order[path.name] = None
        for part, value in of(path).items():
            if part not in ONE_OF:
                out[part], names[part] = value, [path.name]
                continue
            rows = value if part != "models" else [r for r in value if "ms" in r.get("nnjit", {})]
            kept = several.setdefault(part, {})
            for row in rows:
                kept[ONE_OF[part](row)] = row, path.name
    for part, found in several.items():
        if found:
            out[part] = [row for row, _ in found.values()]
            left = {name for _, name in found.values()}
            names[part] = [name for name in order if name in left]
    return out, names


TABLES: dict[str, Callable[[Row], str]] = {
    "suite": rows.suite,
    "products": rows.products,
    "products f16": lambda p: rows.narrow(p, "products f16", "f16"),
    "vectors": rows.vectors,
    "products i8": lambda p: rows.narrow(p, "products i8", "i8"),
    "attention": rows.attention,
    "dispatch": rows.dispatch,
    "models": rows.models,
    "first": rows.first,
    "decode": rows.decode,
    "readback": rows.readback,
    "tuned": rows.tuned,
    "live": lambda p: studies.lived(p["live"]),
    "overhead": lambda p: studies.costs(p["overhead"]),
    "p99": lambda p: studies.longest(p["p99"]),
    "spaces": lambda p: rows.spaces_table(p["spaces"]),
}


def tables(paths: Sequence[Path]) -> dict[str, str]:
    """Of each part that the records hold, with the names of those it is from; and of the bars."""
    parts, names = merged(paths)
    out = {"bars": bars(parts)}
    for key, table in TABLES.items():
        if parts.get(key) and (text := table(parts)):
            out[key] = f"{text}\n\n({', '.join(f'`{name}`' for name in names[key])})"
    return out


def named(text: str, folder: Path = RESULTS) -> list[Path]:
    """The records that a page's tables are from, as far as they are there."""
    names = dict.fromkeys(name for line in SOURCES.findall(text) for name in re.findall(r"`([^`]+)`", line))
    found = {path.name: path for path in sorted(folder.rglob("*.json*"))}
    return [found[name] for name in names if name in found]


def in_docs(text: str, found: dict[str, str]) -> str:
    """The text with its tables renewed; of a part that was not measured it stays as it is."""
    for key, table in found.items():
        begin = f"<!-- {key} -->\n"
        if begin in text:
            before, rest = text.split(begin, 1)
            text = f"{before}{begin}{table}\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}"
    return text


def main(arguments: Sequence[str]) -> None:
    given = [Path(a) for a in arguments if a != "--docs"]
    if "--docs" not in arguments:
        print("\n\n".join(f"{key}\n\n{table}" for key, table in tables(given).items()))
        return
    text = DOCS.read_text()
    DOCS.write_text(in_docs(text, tables([*named(text), *given])))


if __name__ == "__main__":
    main(sys.argv[1:])
