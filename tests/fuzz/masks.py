"""Attention under masks against native onnxruntime: every way of writing them, rows that see nothing among them.

    PYTHONPATH=py python -m tests.fuzz.masks [--links 2] [--every 1] [--half]

A case is a chain of `links` masks between product and softmax, inner ones first. Each adds (`+`) a mask or selects by
one (`?` the scores where it holds, `!` where it does not), with its own lowest number, and is fed or a constant.
Between them they hide some rows altogether, one of them alone or only both together.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from tests.support.single import native

LOWS = {
    "float32": (float("-inf"), float(np.finfo(np.float32).min), -1e9, -1e4, -50.0),
    "float16": (float("-inf"), float(np.finfo(np.float16).min), -1e4),
}
ROWS, KEYS, DEPTH = 13, 19, 8


@dataclass(frozen=True)
class Link:
    """One mask: how it is applied ('+', '?', '!'), what is hidden ('causal', 'front', 'rows', 'other'), the number."""

    how: str
    hidden: str
    low: float
    fed: bool

    def __str__(self) -> str:
        return f"{self.how}{self.hidden}:{self.low:g}{'' if self.fed else ':constant'}"


def hidden(name: str) -> Any:
    """bool [2, 1, ROWS, KEYS] or what broadcasts to it: the places that a mask hides."""
    row, key = np.arange(ROWS)[:, None], np.arange(KEYS)
    batch = np.arange(2).reshape(2, 1, 1, 1)
    return {
        "causal": key > row + 1,
        "front": np.broadcast_to(
            (key < 3) & (batch == 1), (2, 1, 1, KEYS)
        ),  # with causal: rows 0 and 1 see nothing
        "rows": (row % 3 == 1) | (key % 4 == 2),
        "other": (row % 3 == 1) & (key > 2) | (row % 3 == 0) & (key < 6),
    }[name]


def case(
    links: tuple[Link, ...], dtype: Any, bend: bool = False, poison: float = 0
) -> tuple[bytes, dict[str, Any]]:
    """The model and its feeds; bend: a position bias is added to the scores first, before any mask; poison: what one
    key's first number is."""
    rng = np.random.default_rng(len(links))
    shapes = {"q": (2, 3, ROWS, DEPTH), "k": (2, 3, KEYS, DEPTH), "v": (2, 3, KEYS, DEPTH)}
    feeds = {n: (3 * rng.standard_normal(s)).astype(dtype) for n, s in shapes.items()}
    if poison:
        feeds["k"][:, :, 6, 0] = poison
    nodes = [
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q", "kt"], ["s"]),
        helper.make_node("Mul", ["s", "scale"], ["s.0"]),
    ]
    held = {"scale": np.array(0.3, dtype)}
    at = "s.0"
    if bend:
        feeds["bend"] = rng.standard_normal((1, 3, ROWS, KEYS)).astype(dtype)
        nodes.append(helper.make_node("Add", [at, "bend"], ["s.bent"]))
        at = "s.bent"
    for i, link in enumerate(links, 1):
        gone, name = hidden(link.hidden), f"m.{i}"
        mask = (
            np.where(gone, link.low, 0).astype(dtype)
            if link.how == "+"
            else gone
            if link.how == "!"
            else ~gone
        )
        (feeds if link.fed else held)[name] = np.ascontiguousarray(mask)
        if link.how == "+":
            nodes.append(helper.make_node("Add", [at, name], [f"s.{i}"]))
        else:
            held[f"low.{i}"] = np.array(link.low, dtype)
            sides = [at, f"low.{i}"] if link.how == "?" else [f"low.{i}", at]
            nodes.append(helper.make_node("Where", [name, *sides], [f"s.{i}"]))
        at = f"s.{i}"
    nodes += [
        helper.make_node("Softmax", [at], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["y"]),
    ]
    kinds = {n: helper.np_dtype_to_tensor_dtype(a.dtype) for n, a in feeds.items()}
    graph = helper.make_graph(
        nodes, "masks", [helper.make_tensor_value_info(n, kinds[n], a.shape) for n, a in feeds.items()],
        [helper.make_tensor_value_info("y", kinds["q"], None)],
        [numpy_helper.from_array(a, n) for n, a in held.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString(), feeds


def answers(data: bytes, feeds: dict[str, Any], way: str) -> tuple[Any, bool]:
    """What nnjit answers, attention in one kernel ("fused") or in three ("split"); whether it was seen as attention."""
    from nnjit.codegen.wasm.target import Target
    from nnjit.runtime.local import LocalSession

    session = LocalSession(data, target=Target(attention=way))
    found = session.run(feeds)["y"]
    assert session.last is not None
    return found, any("attention" in s.name for s in session.last.steps)


def bound(links: tuple[Link, ...], dtype: str, bend: bool) -> float:
    """How far an answer may be off. Where several things are added, the order decides how a sum is rounded, which shows
    where rows are hidden by a number that leaves some digits of a score."""
    added = [x.low for x in links if x.how == "+" and x.low > -1e8]
    if dtype == "float16":
        return 5e-2
    coarse = len(added) + bend > 1 and added
    return 1e-4 + (16 * float(np.spacing(np.float32(abs(sum(added))))) if coarse else 0)


def apart(found: Any, wanted: Any) -> float:
    """The largest difference; infinite where only one is a NaN."""
    a, b = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    if (np.isnan(a) != np.isnan(b)).any():
        return float("inf")
    return float(np.nanmax(np.abs(a - b), initial=0))


def chains(count: int, dtype: str, every: int = 1) -> list[tuple[Link, ...]]:
    """Every so many of all chains of `count` masks that hide different places."""
    links = [
        Link(how, gone, low, fed)
        for how, gone, low, fed in itertools.product(
            "+?!", ("causal", "front", "rows", "other"), LOWS[dtype], (True, False)
        )
    ]
    size = len(links)
    drawn = [tuple(links[n // size**i % size] for i in range(count)) for n in range(0, size**count, every)]
    return [c for c in drawn if len({x.hidden for x in c}) == count]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.masks", description=__doc__)
    parser.add_argument("--links", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="only every so many chains")
    parser.add_argument("--half", action="store_true", help="float16")
    parser.add_argument("--bend", action="store_true", help="a position bias is added first")
    parser.add_argument("--poison", type=float, default=0, help="a number that one key holds: nan, inf")
    options = parser.parse_args()
    dtype = "float16" if options.half else "float32"
    faults = fused = 0
    drawn = chains(options.links, dtype, options.every)
    for n, links in enumerate(drawn):
        data, feeds = case(links, np.dtype(dtype), options.bend, options.poison)
        wanted = native(data, feeds, optimised=False)["y"]
        found, seen = answers(data, feeds, ("fused", "split")[n % 2])
        fused += seen
        off = apart(found, wanted)
        if off > bound(links, dtype, options.bend):
            faults += 1
            tail = "" if seen else ", not seen as attention"
            print(f"{' '.join(map(str, links))}: {off:.3g} apart{tail}", flush=True)
    print(f"{len(drawn)} chains, {fused} of them seen as attention, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
