"""How often each value of a run of statements is used: what `values` keeps in a local, and for how long.

Takes statements, gives counts: `total` of the values that no statement of the run changes, over all of it; `own` of
the others, a statement each; `loads`, the unchanging ones that are plain; `read`, every operand that is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from nnjit.codegen.expr import GATHER, Expr, facts
from nnjit.codegen.loops import Set, Store
from nnjit.codegen.rewriting import walk

_REGISTERS = facts(("reg", "acc", "local"))


class Uses:
    """See the module; the statements are of one width and follow each other."""

    def __init__(self, stmts: Sequence[Set | Store]) -> None:
        self.total: dict[Expr, int] = {}
        self.own: list[dict[Expr, int]] = []
        self.loads: list[Expr] = []
        self.read: set[int] = set()
        changed = {"%" + s.reg for s in stmts if isinstance(s, Set)}
        written = facts(tuple({s.operand for s in stmts if isinstance(s, Store)}))
        fixed: dict[Expr, bool] = {}
        total = self.total
        for s in stmts:
            mine: dict[Expr, int] = {}
            self.own.append(mine)
            stack = [s.value]
            while stack:
                e = stack.pop()
                if e in total:
                    total[e] += 1
                elif e in mine:
                    mine[e] += 1
                elif e.op != "reg":  # which has its local already
                    still = fixed.get(e)
                    if still is None:
                        # no statement of the run writes a register or an operand that it reads
                        bits = e.facts
                        still = fixed[e] = not bits & written and (
                            not bits & _REGISTERS or e.axes().isdisjoint(changed)
                        )
                    if still:
                        total[e] = 1
                    else:
                        mine[e] = 1
                    stack += e.args
                    if e.op == "load":
                        self._read(e, still)

    def _read(self, e: Expr, unchanging: bool) -> None:
        self.read.add(e.attr.operand)
        if unchanging:
            self.loads.append(e)
        if e.facts & GATHER:
            self.read.update(x.attr.operand for x in walk(e) if x.op == "load")
