"""ai.onnx.ml's tree ensembles: every tree of every row goes down one level at a time, all of them together.

    at = roots;  depth times: at = x[feature[at]] <= value[at] ? yes[at] : no[at];  y = sum over trees of weight[at]

A leaf leads to itself. The tables are constants, a level is a few lookups: kernels run them as any others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir import Value
from .body import Body
from .declare import Outputs
from .learned import expands, label_count, labels_of, rows, transformed

Array = Any
_COMPARE = {
    "BRANCH_LEQ": "LessOrEqual", "BRANCH_LT": "Less", "BRANCH_GTE": "GreaterOrEqual", "BRANCH_GT": "Greater",
    "BRANCH_EQ": "Equal",
}  # fmt: skip


@dataclass(frozen=True)
class Forest:
    """Nodes of all trees in one row of tables. yes, no: where a comparison leads to; `missing`: NaN goes to yes."""

    feature: Array
    value: Array
    yes: Array
    no: Array
    mode: list[str]
    missing: Array
    roots: Array
    depth: int
    place: dict[tuple[int, int], int]
    """(tree, node) -> its place in the tables"""


def forest(b: Body) -> Forest:
    """The tables in the attributes nodes_*."""
    trees, ids = (list(b.attr(f"nodes_{n}ids") or []) for n in ("tree", "node"))
    place = {key: i for i, key in enumerate(zip(trees, ids, strict=True))}
    count, mode = len(trees), list(b.attr("nodes_modes") or [])
    if len(place) != count or len(mode) != count or not count:
        b.fail("its nodes are not one of a kind, or have no modes")
    values = b.attr("nodes_values_as_tensor")
    value = np.asarray(b.attr("nodes_values") if values is None else values)
    own = np.arange(count)
    yes, no = own.copy(), own.copy()
    for i, (tree, kind) in enumerate(zip(trees, mode, strict=True)):
        if kind == "LEAF":
            continue
        ends = [place.get((tree, b.attr(f"nodes_{side}nodeids")[i])) for side in ("true", "false")]
        if None in ends or kind not in (*_COMPARE, "BRANCH_NEQ"):
            b.fail(f"node {ids[i]} of tree {tree} leads to nodes that are not there, or compares by {kind}")
        yes[i], no[i] = (int(end or 0) for end in ends)
    children = {int(n) for i in own if mode[i] != "LEAF" for n in (yes[i], no[i])}
    roots = np.array([i for i in own if int(i) not in children])
    missing = np.asarray(b.attr("nodes_missing_value_tracks_true") or [0] * count, bool)
    feature = np.asarray(b.attr("nodes_featureids"))
    return Forest(feature, value, yes, no, mode, missing, roots, _depth(b, yes, no, roots), place)


def _depth(b: Body, yes: Array, no: Array, roots: Array) -> int:
    """The most comparisons on a way down."""
    level, depth = roots, 0
    while True:
        inner = level[yes[level] != level]
        if not inner.size:
            return depth
        depth += 1
        if depth > yes.size:
            b.fail("its nodes form a circle")
        level = np.unique(np.concatenate([yes[inner], no[inner]]))


def leaves(b: Body, f: Forest, x: Value) -> Value:
    """[n, trees]: the place in the tables of the leaf that each row of x comes to in each tree"""
    n, features = b.shape(x)
    if features <= int(f.feature[[m != "LEAF" for m in f.mode]].max(initial=0)):
        b.fail("the input has fewer features than the trees ask for", None, features)
    index = f.feature * np.array([m != "LEAF" for m in f.mode])
    tables = {
        "feature": b.const(index, "i32"), "value": b.const(f.value, x.dtype), "yes": b.const(f.yes, "i32"),
        "no": b.const(f.no, "i32"), "missing": b.const(f.missing, "bool"),
    }  # fmt: skip
    at = b("Expand", b.const(f.roots, "i32"), b.const([n, f.roots.size]))
    for _ in range(f.depth):
        feature, value, yes, no = (
            b("Gather", tables[t], at, axis=0) for t in ("feature", "value", "yes", "no")
        )
        found = b("GatherElements", x, feature, axis=1)
        holds = _compared(b, f, at, found, value)
        if f.missing.any():
            gone = b("And", b("IsNaN", found), b("Gather", tables["missing"], at, axis=0))
            holds = b("Or", holds, gone)
        at = b("Where", holds, yes, no)
    return at


def _compared(b: Body, f: Forest, at: Value, x: Value, value: Value) -> Value:
    """Each node's own comparison; all kinds that the trees have are made where they have several."""
    kinds = sorted({m for m in f.mode if m != "LEAF"})
    found: Value | None = None
    for kind in kinds:
        one = b(_COMPARE.get(kind, "Equal"), x, value)
        one = b("Not", one) if kind == "BRANCH_NEQ" else one
        if found is None:
            found = one
            continue
        which = b("Gather", b.const([m == kind for m in f.mode], "bool"), at, axis=0)
        found = b("Where", which, one, found)
    assert found is not None
    return found


def weights(b: Body, f: Forest, prefix: str, outputs: int) -> tuple[Array, Array]:
    """[nodes, outputs]: what each leaf adds, and whether it says anything"""
    table, says = np.zeros((f.yes.size, outputs)), np.zeros((f.yes.size, outputs), bool)
    tensor = b.attr(f"{prefix}_weights_as_tensor")
    given = np.asarray(b.attr(f"{prefix}_weights") if tensor is None else tensor)
    columns = (b.attr(f"{prefix}_{n}ids") or [] for n in ("tree", "node", ""))
    for tree, node, output, weight in zip(*columns, given, strict=True):
        where = f.place.get((tree, node))
        if where is None or not 0 <= output < outputs:
            b.fail(f"a weight is for node {node} of tree {tree} and output {output}, which are not there")
        table[where, output] += weight
        says[where, output] = True
    return table, says


def _base(b: Body) -> Array:
    tensor = b.attr("base_values_as_tensor")
    return np.asarray((b.attr("base_values") or []) if tensor is None else tensor, np.float64)


@expands("TreeEnsembleRegressor")
def tree_ensemble_regressor(b: Body) -> Value:
    """The sum (mean, least, largest) of what the trees' leaves say of each target"""
    x, f, targets = rows(b, b.given("X")), forest(b), b.attr("n_targets") or 1
    table, says = weights(b, f, "target", targets)
    at, how = leaves(b, f, x), b.attr("aggregate_function", "SUM")
    if how in ("SUM", "AVERAGE"):
        y = _summed(b, at, table / (f.roots.size if how == "AVERAGE" else 1), x.dtype)
    elif how in ("MIN", "MAX"):
        nothing = np.inf if how == "MIN" else -np.inf
        each = b("Gather", b.const(np.where(says, table, nothing), x.dtype), at, axis=0)
        y = b(f"Reduce{how.title()}", each, b.const([1]), keepdims=0)
        if not _always(f, says).all():
            y = b("Where", b("IsInf", y), b.const(0, x.dtype), y)
    else:
        b.refuse(f"aggregate_function {how!r}", "known are SUM, AVERAGE, MIN and MAX")
    base = _base(b)
    y = b("Add", y, b.const(base, x.dtype)) if base.any() else y
    return b.cast(transformed(b, y, b.attr("post_transform", "NONE")), "f32")


def _summed(b: Body, at: Value, table: Array, dtype: str) -> Value:
    """[n, trees] → [n, outputs]"""
    return b("ReduceSum", b("Gather", b.const(table, dtype), at, axis=0), b.const([1]), keepdims=0)


def _always(f: Forest, says: Array) -> Array:
    """For each output, whether every leaf of some tree says something of it"""
    found = np.zeros(says.shape[1], bool)
    for root in f.roots:
        stack, all_say = [int(root)], np.ones(says.shape[1], bool)
        while stack:
            i = stack.pop()
            if f.yes[i] == i:
                all_say &= says[i]
            else:
                stack += [int(f.yes[i]), int(f.no[i])]
        found |= all_say
    return found


@expands("TreeEnsembleClassifier")
def tree_ensemble_classifier(b: Body) -> Outputs:
    """Scores of each class and the label of the highest; two classes may share one score"""
    x, f, classes = rows(b, b.given("X")), forest(b), label_count(b)
    table, says = weights(b, f, "class", classes)
    at, base = leaves(b, f, x), _base(b)
    if classes == 2 and len(set(b.attr("class_ids"))) == 1:
        return _one_score(b, _summed(b, at, table.sum(1, keepdims=True), x.dtype), bool((table >= 0).all()))
    scores = _summed(b, at, table, x.dtype)
    if base.size:
        scores = b("Add", scores, b.const(base, x.dtype))
    judged = scores
    if not base.size and not _always(f, says).all():  # a class of which no leaf says anything cannot win
        each = b("Gather", b.const(says, "i32"), at, axis=0)
        said = b("ReduceMax", each, b.const([1]), keepdims=0)
        judged = b("Where", b("Greater", said, b.const(0, "i32")), scores, b.const(-np.inf, x.dtype))
    best = b("ArgMax", judged, axis=1, keepdims=0)
    return [labels_of(b, best), b.cast(transformed(b, scores, b.attr("post_transform", "NONE")), "f32")]


def _one_score(b: Body, s: Value, shares: bool) -> Outputs:
    """Two classes with one score s, [n, 1]; `shares`: no weight is below 0.

    If it is the first class's: [1 - s, s] of shares, else [-s, s]. If it is the second's: [0, s]."""
    base, dtype = _base(b), s.dtype
    transform, second = b.attr("post_transform", "NONE"), b.attr("class_ids")[0] == 1
    if base.size and second:
        b.refuse("base values beside scores of the second class only", "add them to a leaf of each tree")
    s = b("Add", s, b.const(base[-1:], dtype)) if base.size else s
    flat = b.reshape(s, (b.shape(s)[0],))
    best = b.cast(b("Greater", flat, b.const(0.5 if shares else 0.0, dtype)), "i64")
    if second:
        scores = transformed(b, b("Concat", b("Sub", s, s), s, axis=1), transform)
    elif transform == "LOGISTIC":
        scores = b("Sigmoid", b("Concat", b("Neg", s), s, axis=1))
    else:
        scores = b("Concat", b("Sub", b.const(1, dtype), s) if shares else b("Neg", s), s, axis=1)
    return [labels_of(b, best), b.cast(scores, "f32")]
