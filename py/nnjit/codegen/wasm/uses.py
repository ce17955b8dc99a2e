"""How often each value of a run of statements is used: what `values` keeps in a local, and for how long.

Takes statements, gives counts: `total` of the values that no statement of the run changes, over all of it; `own` of
the others, a statement each; `loads`, the unchanging ones that are plain; `read`, every operand that is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from nnjit.codegen.expr import Expr, walk
from nnjit.codegen.loops import Set, Store


class Uses:
    def __init__(self, stmts: Sequence[Set | Store]) -> None:
        self.total: dict[Expr, int] = {}
        self.own: list[dict[Expr, int]] = []
        self.loads: list[Expr] = []
        self.read: set[int] = set()
        self._changed = {"%" + s.reg for s in stmts if isinstance(s, Set)}
        self._written = {s.operand for s in stmts if isinstance(s, Store)}
        self._fixed: dict[Expr, bool] = {}
        for s in stmts:
            mine: dict[Expr, int] = {}
            self.own.append(mine)
            self._visit(s.value, mine)

    def _visit(self, e: Expr, mine: dict[Expr, int]) -> None:
        counts = self.total if self._unchanging(e) else mine
        n = counts.get(e, 0)
        counts[e] = n + 1
        if n == 0:
            if e.op == "load":
                self._read(e, counts is self.total)
            for a in e.args:
                self._visit(a, mine)

    def _read(self, e: Expr, unchanging: bool) -> None:
        self.read.add(e.attr.operand)
        if unchanging:
            self.loads.append(e)
        for atom, _ in e.attr.index.terms:
            if not isinstance(atom, str):
                self.read.update(x.attr.operand for x in walk(atom) if x.op == "load")

    def _unchanging(self, e: Expr) -> bool:
        """Whether no statement of the run writes a register or an operand that `e` reads."""
        known = self._fixed.get(e)
        if known is None:
            known = all(map(self._unchanging, e.args))
            if e.op == "reg":
                known = "%" + e.attr not in self._changed
            elif e.op == "load":
                known = known and e.attr.operand not in self._written and not (e.axes() & self._changed)
            self._fixed[e] = known
        return known
