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
class Places:
    """Where the node of each number of each tree is in the tables."""

    keys: Array
    order: Array
    most: int

    @staticmethod
    def of(trees: Array, nodes: Array) -> Places:
        most = int(nodes.max(initial=0)) + 1
        keys = trees * most + nodes
        order = np.argsort(keys, kind="stable")
        return Places(keys[order], order, most)

    def at(self, trees: Array, nodes: Array) -> Array:
        """-1 where there is none"""
        keys = trees * self.most + nodes
        found = np.searchsorted(self.keys, keys).clip(max=self.keys.size - 1)
        there = (self.keys[found] == keys) & (nodes >= 0) & (nodes < self.most)
        return np.where(there, self.order[found], -1)


@dataclass(frozen=True)
class Forest:
    """Nodes of all trees in one row of tables. yes, no: where a comparison leads to; `missing`: NaN goes to yes."""

    feature: Array
    value: Array
    yes: Array
    no: Array
    mode: Array
    missing: Array
    roots: Array
    depth: int
    places: Places


def forest(b: Body) -> Forest:
    """The tables in the attributes nodes_*."""
    trees, ids = (np.asarray(b.attr(f"nodes_{n}ids") or [], np.int64) for n in ("tree", "node"))
    mode, own = np.asarray(b.attr("nodes_modes") or [], str), np.arange(trees.size)
    if not trees.size or ids.size != trees.size or mode.size != trees.size:
        b.fail("its nodes have not a tree, a number and a mode each")
    places = Places.of(trees, ids)
    if (places.keys[1:] == places.keys[:-1]).any():
        b.fail("two nodes of a tree have one number")
    inner = mode != "LEAF"
    unknown = set(mode[inner].tolist()) - {*_COMPARE, "BRANCH_NEQ"}
    if unknown:
        b.refuse(
            f"comparisons by {', '.join(sorted(unknown))}", f"known are {', '.join(_COMPARE)} and BRANCH_NEQ"
        )
    yes, no = (
        np.where(inner, places.at(trees, np.asarray(b.attr(f"nodes_{side}nodeids"), np.int64)), own)
        for side in ("true", "false")
    )
    astray = np.flatnonzero((yes < 0) | (no < 0))
    if astray.size:
        b.fail(f"node {ids[astray[0]]} of tree {trees[astray[0]]} leads to a node that is not there")
    values = b.attr("nodes_values_as_tensor")
    value = np.asarray(b.attr("nodes_values") if values is None else values)
    roots = np.setdiff1d(own, np.concatenate([yes[inner], no[inner]]))
    if not roots.size:
        b.fail("its nodes form a circle")
    missing = np.asarray(b.attr("nodes_missing_value_tracks_true") or [0] * own.size, bool)
    feature = np.where(inner, np.asarray(b.attr("nodes_featureids")), 0)
    return Forest(feature, value, yes, no, mode, missing, roots, _depth(b, yes, no, roots), places)


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
    if features <= int(f.feature.max()):
        b.fail(
            "the input has fewer features than the trees ask for", f"at least {f.feature.max() + 1}", features
        )
    tables = {
        "feature": b.const(f.feature, "i32"), "value": b.const(f.value, x.dtype), "yes": b.const(f.yes, "i32"),
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
    kinds = sorted({*f.mode.tolist()} - {"LEAF"})
    found: Value | None = None
    for kind in kinds:
        one = b(_COMPARE.get(kind, "Equal"), x, value)
        one = b("Not", one) if kind == "BRANCH_NEQ" else one
        if found is None:
            found = one
            continue
        which = b("Gather", b.const(f.mode == kind, "bool"), at, axis=0)
        found = b("Where", which, one, found)
    assert found is not None
    return found


def weights(b: Body, f: Forest, prefix: str, outputs: int) -> tuple[Array, Array]:
    """[nodes, outputs]: what each leaf adds, and whether it says anything"""
    table, says = np.zeros((f.yes.size, outputs)), np.zeros((f.yes.size, outputs), bool)
    tensor = b.attr(f"{prefix}_weights_as_tensor")
    given = np.asarray(b.attr(f"{prefix}_weights") if tensor is None else tensor)
    trees, nodes, columns = (
        np.asarray(b.attr(f"{prefix}_{n}ids") or [], np.int64) for n in ("tree", "node", "")
    )
    at = f.places.at(trees, nodes)
    astray = np.flatnonzero((at < 0) | (columns < 0) | (columns >= outputs))
    if astray.size:
        tree, node, column = (int(v[astray[0]]) for v in (trees, nodes, columns))
        b.fail(f"a weight is for node {node} of tree {tree} and output {column}, which are not there")
    np.add.at(table, (at, columns), given)
    says[at, columns] = True
    return table, says


def _base(b: Body) -> Array:
    tensor = b.attr("base_values_as_tensor")
    return np.asarray((b.attr("base_values") or []) if tensor is None else tensor, np.float64)


@expands("TreeEnsembleRegressor")
def tree_ensemble_regressor(b: Body) -> Value:
    """The sum (mean, least, largest) of what the trees' leaves say of each target"""
    x, f, targets = rows(b, b.given("X")), forest(b), b.attr("n_targets") or 1
    table, says = weights(b, f, "target", targets)
    y = _aggregated(b, f, leaves(b, f, x), table, says, b.attr("aggregate_function", "SUM"), x.dtype)
    base = _base(b)
    y = b("Add", y, b.const(base, x.dtype)) if base.any() else y
    return b.cast(transformed(b, y, b.attr("post_transform", "NONE")), "f32")


def _aggregated(b: Body, f: Forest, at: Value, table: Array, says: Array, how: str, dtype: str) -> Value:
    """[n, trees] → [n, outputs]: of what the leaves say"""
    if how in ("SUM", "AVERAGE"):
        return _summed(b, at, table / (f.roots.size if how == "AVERAGE" else 1), dtype)
    if how not in ("MIN", "MAX"):
        b.refuse(f"aggregate_function {how!r}", "known are SUM, AVERAGE, MIN and MAX")
    nothing = np.inf if how == "MIN" else -np.inf
    each = b("Gather", b.const(np.where(says, table, nothing), dtype), at, axis=0)
    y = b(f"Reduce{how.title()}", each, b.const([1]), keepdims=0)
    return y if _always(f, says).all() else b("Where", b("IsInf", y), b.const(0, dtype), y)


_MODES = np.array([*_COMPARE, "BRANCH_NEQ", "BRANCH_MEMBER"])
_AGGREGATES, _TRANSFORMS = (
    ("AVERAGE", "SUM", "MIN", "MAX"),
    ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"),
)


@expands("TreeEnsemble")
def tree_ensemble(b: Body) -> Value | None:
    """As TreeEnsembleRegressor, leaves apart from the nodes; the reference looks up members of sets"""
    mode = _MODES[np.asarray(b.attr("nodes_modes"), np.int64)]
    if (mode == "BRANCH_MEMBER").any():
        return None
    columns, given = np.asarray(b.attr("leaf_targetids")), np.asarray(b.attr("leaf_weights"))
    inner, count, targets = np.arange(mode.size), columns.size, b.attr("n_targets") or 1
    own = np.concatenate([inner, inner.size + np.arange(count)])
    ends = []
    for side in ("true", "false"):
        to = np.asarray(b.attr(f"nodes_{side}nodeids"))
        to = to + inner.size * np.asarray(b.attr(f"nodes_{side}leafs"))
        if to.size != inner.size or (to < 0).any() or (to >= own.size).any():
            b.fail("a node leads to a node or a leaf that is not there")
        ends.append(np.concatenate([to, own[inner.size :]]))
    yes, no = ends
    if (columns < 0).any() or (columns >= targets).any() or given.size != count:
        b.fail("a leaf's target or weight is not there", targets)

    def wide(values: Array) -> Array:
        return np.concatenate([values, np.zeros(count, values.dtype)])

    missing = np.asarray(b.attr("nodes_missing_value_tracks_true") or np.zeros(inner.size), bool)
    roots = np.asarray(b.attr("tree_roots"), np.int64)
    f = Forest(
        wide(np.asarray(b.attr("nodes_featureids"))), wide(np.asarray(b.attr("nodes_splits"))), yes, no,
        np.concatenate([mode, np.full(count, "LEAF")]), wide(missing), roots, _depth(b, yes, no, roots),
        Places.of(own * 0, own),
    )  # fmt: skip
    table, says = np.zeros((own.size, targets)), np.zeros((own.size, targets), bool)
    table[inner.size + np.arange(count), columns] = given
    says[inner.size + np.arange(count), columns] = True
    x = b.given("X")
    how = _AGGREGATES[b.attr("aggregate_function", 1)]
    y = _aggregated(b, f, leaves(b, f, x), table, says, how, x.dtype)
    return transformed(b, y, _TRANSFORMS[b.attr("post_transform", 0)])


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
