"""What memory bounds, beside its bound: the bytes that an operator must read and write, the time that the machine takes
for as many, and the table of it in docs/memory.md.

python -m tests.bench.memory tests/bench/results/A.json B.json      results of `serve.py bench --ops memory`

Bytes are those of the model's constants and feeds, once, and of the operator's output, written and read again; a
reduction's output is next to nothing. What a library computes on the way it may do without memory.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import onnx
import wasmtime

from tests.bench.op import Op
from tests.bench.products import DOCS, keep
from tests.bench.report import merge, number

MARK = "memory"
STEP = 64


def copier() -> bytes:
    """Exports read(bytes: i32): the first half of so many bytes of the imported memory copied to the second half, so
    that each is read or written once."""
    at = "(i32.add (local.get $p) (local.get $half))"
    step = "\n".join(
        f"(v128.store offset={o} {at} (v128.load offset={o} (local.get $p)))" for o in range(0, STEP, 16)
    )
    return bytes(
        wasmtime.wat2wasm(f"""(module (import "env" "memory" (memory 1))
        (func (export "read") (param $bytes i32) (local $p i32) (local $half i32)
        (local.set $half (i32.div_u (local.get $bytes) (i32.const 2)))
        (loop $again
          {step}
          (br_if $again (i32.lt_u (local.tee $p (i32.add (local.get $p) (i32.const {STEP}))) (local.get $half))))))""")
    )


def traffic(op: Op) -> tuple[int, int]:
    """Bytes read and written at least."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(op.model), data_prop=True)
    read = sum(onnx.numpy_helper.to_array(t).nbytes for t in model.graph.initializer)
    read += sum(x.nbytes for x in op.feeds.values())
    types = {v.name: v.type.tensor_type for v in model.graph.value_info}
    made = types.get("b") or types["a"]  # GroupNormalization has no shape of its own there
    size = int(np.prod([d.dim_value for d in made.shape.dim]))
    written = size * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(made.elem_type)).itemsize
    return read + written, written


def least(row: dict[str, Any]) -> float:
    """Milliseconds: what is written takes as long as a copy of it, what is read beyond that as long as reading."""
    (read, written), (reading, copying) = row["traffic"], row["rates"]
    return float(2 * written / copying + max(0, read - written) / reading) / 1e6


def section(data: dict[str, Any]) -> str:
    """A row an operator: both libraries, their quotient, the share of the bound, for each thread count."""
    cells: dict[str, list[str]] = {}
    head, means = ["operator"], []
    for run in data["runs"]:
        rows = [r for r in run["rows"] if "traffic" in r]
        head += [
            f"{run['threads']} thread{'s' * (run['threads'] > 1)}: nnjit",
            "onnxruntime-web",
            "ratio",
            "of memory",
        ]
        ratios, shares = [], []
        for row in rows:
            ours, theirs = (row["results"].get(n, {}).get("median") for n in ("nnjit", "onnxruntime-web"))
            shares.append(least(row) / ours)
            ratios += [theirs / ours] if theirs else []
            times = f"{theirs / ours:.2g}" if theirs else "–"
            cells.setdefault(row["name"], []).extend(
                [number(ours), number(theirs) if theirs else "–", times, f"{100 * shares[-1]:.0f}%"]
            )
        means += [
            "",
            "",
            f"{geometric_mean(ratios):.2f}" if ratios else "–",
            f"{100 * geometric_mean(shares):.0f}%",
        ]
    about = data["about"]
    lines = [
        f"{about['cpu']}, {about['cores']} cores, {about['browser']}, {about['date']}; load average {about['load']}.\n",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        *(f"| {name} | " + " | ".join(row) + " |" for name, row in cells.items()),
        "| geometric mean | " + " | ".join(means) + " |",
    ]
    return "\n".join(lines)


def main(paths: list[Path]) -> int:
    text = section(merge([json.loads(path.read_text()) for path in paths]))
    return keep(MARK, text, DOCS.with_name("memory.md"))


if __name__ == "__main__":
    raise SystemExit(main([Path(name) for name in sys.argv[1:]]))
