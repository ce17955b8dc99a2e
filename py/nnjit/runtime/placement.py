"""Where each node of a model ended up, as session.placement() shows it.

Takes the model, the bound graph and its plan; gives one record a node of the model: a step of the backend, a host call
on the reference, folded into a constant, or nothing at run time (a view, a value that is there already, or one that
nothing needs). A node that a pass made part of another, a convolution of the scale behind it or the inner nodes of an
attention, is where that one is; one that repeats another is where the first is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..graph.ir import Graph, Node
from ..graph.model import Model
from ..lower.registry import kind

if TYPE_CHECKING:
    from .gpu_plan import GpuPlan, GpuStep
    from .plan import Plan, Step

Record = dict[str, Any]


def all_reference(model: Model, reason: str) -> list[Record]:
    """Every node on the reference, and why."""
    return [{"node": name, "op": op, "backend": "reference", "reason": reason} for name, op in model.nodes]


def of_plan(model: Model, graph: Graph, plan: Plan | GpuPlan) -> list[Record]:
    """A record a node of the model, in the model's order, then those the compiler's passes made."""
    placed = {**_once(plan), **_steps(plan), **_host_calls(plan)}
    for name, all_of_it in plan.lowered.graph.merged.items() if plan.lowered else ():
        if name in placed:
            placed |= dict.fromkeys(all_of_it, placed[name])
    given = {name for name, _ in model.nodes}
    found = {**_inner(placed, given), **placed}
    for node in reversed(graph.nodes):  # whoever reads a node comes after it
        if node.name not in found:
            found[node.name] = _unplaced(node, found)
    found |= _merged(graph.readers, found)
    found |= {name: _stands(graph.stands_for, name, found) for name in graph.stands_for if name not in placed}
    for name in graph.readers:
        found.setdefault(
            name, {"backend": "none"}
        )  # not a constant, and in no step: nothing needs it computed
    folded = {"backend": "folded"}
    records = [{"node": name, "op": op, **found.get(name, folded)} for name, op in model.nodes]
    ops = {node.name: node.op for node in graph.nodes}
    records += [
        {"node": name, "op": ops.get(name, ""), "made": True, **where}
        for name, where in placed.items()
        if name not in given
    ]
    return records


def _unplaced(node: Node, found: dict[str, Record]) -> Record:
    """Where a node of the graph is that no step names: computed where it is read, or its output is its input's bytes
    under another shape."""
    readers = (found.get(user.name) for v in node.outputs for user in v.users)
    nowhere: Record = {"backend": "none"}
    return next((w for w in readers if w), nowhere) if kind(node) == "pointwise" else nowhere


def _merged(readers: dict[str, list[str]], placed: dict[str, Record]) -> dict[str, Record]:
    """Where nodes ran that passes made part of others: with the first of those that read them and are somewhere."""
    found: dict[str, Record] = {}
    for name in reversed(readers):  # whoever reads a node comes after it
        if name not in placed:
            where = next((w for r in readers[name] if (w := placed.get(r) or found.get(r))), None)
            if where is not None:
                found[name] = where
    return found


def _stands(stands_for: dict[str, str], name: str, found: dict[str, Record]) -> Record:
    """Where the node is whose value a dropped one has: nowhere if that is an input of the dropped one."""
    seen = {name}  # nodes of one definition may share a name
    while (name := stands_for[name]) in stands_for and name not in seen:
        seen.add(name)  # the first of equal nodes may have been dropped later
    return found.get(name, {"backend": "none"})


def _inner(placed: dict[str, Record], given: set[str]) -> dict[str, Record]:
    """Function operator -> where the nodes of its definition ran, whose names begin with its own: on the
    reference as soon as one of them did."""
    found: dict[str, Record] = {}
    for made, where in placed.items():
        if made in given:
            continue
        for end in (i for i, c in enumerate(made) if c == "/"):
            name = made[:end]
            if name in given and found.get(name, {}).get("backend") != "reference":
                found[name] = {**where, "expanded": True}
    return found


def _steps(plan: Plan | GpuPlan) -> dict[str, Record]:
    found: dict[str, Record] = {}
    steps: Sequence[Step | GpuStep] = plan.steps
    for index, step in enumerate(steps):
        for name in step.nodes:
            found[name] = {"backend": plan.backend, "kernel": step.kernel, "step": index}
    return found


def _once(plan: Plan | GpuPlan) -> dict[str, Record]:
    where = {"backend": plan.backend, "once": True}
    return {name: {**where, "kernel": kernel} for name, kernel in plan.once.items()}


def _host_calls(plan: Plan | GpuPlan) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for call in plan.host_calls.values():
        for node in call.nodes:
            found[node.name] = {"backend": "reference", "reason": call.reason, "once": node.once}
    return found
