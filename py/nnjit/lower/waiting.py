"""Kernels that add up the parts of a sum wait for the norm that reads their rows, to be one kernel with it.

`with_norm` is asked with each kernel that is about to be added: it adds the kernel of both, or first of all makes the
sums that this kernel reads. A sum that waits is read by nothing else in between.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nnjit.codegen.expr import UnsupportedExpr
from nnjit.codegen.schedule.row_sums import with_rows
from nnjit.codegen.schedule.steps import ScheduleError
from nnjit.codegen.spec import KernelSpec
from nnjit.graph.ir import Node
from nnjit.lower.tensors import Buffer

if TYPE_CHECKING:
    from nnjit.lower.steps import Steps

NORMS = frozenset({"LayerNormalization", "RMSNormalization"})


@dataclass(slots=True)
class Waiting:
    """The kernel of a sum in parts. begun: how many steps there were; at: where it was added, by itself or with a norm,
    -1 as long as it waits."""

    spec: KernelSpec
    places: list[tuple[Buffer, int]]
    nodes: list[Node]
    anchor: Node | None
    begun: int
    at: int = -1

    def undone(self, mark: int) -> Waiting:
        """As it was when there were `mark` steps."""
        return replace(self, at=-1) if self.at >= mark else self


def with_norm(
    kernels: Steps, spec: KernelSpec, places: list[tuple[Buffer, int]], nodes: list[Node], once: bool
) -> bool:
    """Adds a kernel together with the sum whose rows it is a norm of; False if it is none. What else it reads of sums
    that wait is made."""
    read = [b for (b, _), o in zip(places, spec.operands, strict=True) if o.role == "in"]
    for b in dict.fromkeys(read):
        waiting = kernels.sums.get(b)
        if waiting is None or waiting.at >= 0:
            continue
        at = [n for n, (x, _) in enumerate(places) if x is b]
        norm = nodes[0].op in NORMS and not once and len(at) == 1 and places[at[0]][1] == 0
        both = with_rows(waiting.spec, spec, at[0]) if norm else None
        if both is not None:
            for x in (*(x for x, _ in waiting.places), *read):
                _made_before(kernels, x, b)
            own = [(places, waiting.places)[which][n] for which, n in both.operands]
            if _added(kernels, waiting, both.spec, own, [*waiting.nodes, *nodes]):
                return True
        make(kernels, waiting)
    return False


def _made_before(kernels: Steps, x: Buffer, b: Buffer) -> None:
    waiting = kernels.sums.get(x)
    if x is not b and waiting is not None and waiting.at < 0:
        make(kernels, waiting)


def _added(
    kernels: Steps, waiting: Waiting, spec: KernelSpec, places: list[tuple[Buffer, int]], nodes: list[Node]
) -> bool:
    """Adds the kernel of both; False where it does not fit the device."""
    mark, anchor = len(kernels.steps), kernels.anchor
    kernels.anchor, waiting.at = (
        waiting.anchor,
        mark,
    )  # with the product: what follows is in its other form too
    try:
        kernels.undivided(spec, places, nodes)
    except (ScheduleError, UnsupportedExpr):
        del kernels.steps[mark:]
        waiting.at = -1
        return False
    finally:
        kernels.anchor = anchor
    return True


def make(kernels: Steps, waiting: Waiting) -> None:
    """Adds the kernel of a sum by itself."""
    anchor = kernels.anchor
    kernels.anchor, waiting.at = waiting.anchor, len(kernels.steps)
    kernels.kernel(waiting.spec, waiting.places, waiting.nodes, False)
    kernels.anchor = anchor
