"""Expressions -> instructions on the stack of a FunctionBuilder, scalar or four lanes wide.

A run of statements shares its common subexpressions: a value used again is kept in a local until its last use. What
each operation is, `scalars` and `vectors` know; this file knows what is computed when.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from nnjit.codegen.expr import LANE, Expr, Index
from nnjit.codegen.loops import Set, Store
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.spec import Operand
from nnjit.codegen.wasm.access import store_vector, store_widened
from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.convert import widens
from nnjit.codegen.wasm.joined import Joined
from nnjit.codegen.wasm.moved import Moved
from nnjit.codegen.wasm.ops import STORES, kind
from nnjit.codegen.wasm.reads import gathers
from nnjit.codegen.wasm.requantise import saturated
from nnjit.codegen.wasm.strided import Strided
from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wasm.uses import Uses
from nnjit.codegen.wasm.vectors import Vectors


class Values(Vectors):
    """See the module. `run` prints a run of statements, `integer` an index, `hoist` what a loop does not change."""

    def __init__(self, b: FunctionBuilder, operands: Sequence[Operand], target: Target) -> None:
        super().__init__(b, operands, target)
        self.hoisted: dict[Expr, int] = {}
        # uses left of a value and the local that has it: in this statement, and in the whole run of statements
        self.uses: dict[Expr, int] = {}
        self.kept: dict[Expr, int] = {}
        self.outer_uses: dict[Expr, int] = {}
        self.outer_kept: dict[Expr, int] = {}
        self.joined: Joined | None = None
        self.short = min(self.sizes, default=4) < 4
        """Whether there are elements of less than a lane: what `joined` and `moved` are for."""

    def run(self, stmts: Sequence[Set | Store]) -> None:
        """Straight-line statements of one width. Values that no statement here changes are shared across
        all of them, the others inside their own statement."""
        self.lanes = stmts[0].lanes
        uses = Uses(stmts)
        shared: dict[Expr, int] = {}
        strided = self.strided = Strided(self, uses, stmts) if self.lanes > 1 else None
        short = self.lanes > 1 and self.short
        self.joined = Joined(self, stmts, uses.read) if short else None
        moved = Moved(self, stmts, uses.read) if short else None
        for s, mine in zip(stmts, uses.own, strict=True):
            self.uses = mine
            self.kept = {}
            self.outer_uses, self.outer_kept = uses.total, shared
            if isinstance(s, Set):
                self.value(s.value)
                self.b.set(self._reg(s))
            elif moved is None or not moved.store(s):
                self._store(s)
            for local in self.kept.values():
                self.b.release(local)
        for local in shared.values():
            self.b.release(local)
        if strided is not None:
            strided.release()
        self.strided = None
        self.uses, self.kept, self.outer_uses, self.outer_kept = {}, {}, {}, {}

    def alone(self, e: Expr) -> None:
        """Pushes `e` sharing nothing with what is around it: in a branch, for one lane, ahead of a loop."""
        if not e.args:
            self._alone(e, {})
            return
        uses: dict[Expr, int] = {}
        stack = [e]
        while stack:
            x = stack.pop()
            n = uses.get(x, 0)
            uses[x] = n + 1
            if n == 0:
                stack.extend(x.args)
        self._alone(e, uses)

    def _alone(self, e: Expr, uses: dict[Expr, int]) -> None:
        saved = self.uses, self.kept, self.outer_uses, self.outer_kept, self.strided
        self.uses, self.kept, self.outer_uses, self.outer_kept, self.strided = uses, {}, {}, {}, None
        self.value(e)
        for local in self.kept.values():
            self.b.release(local)
        self.uses, self.kept, self.outer_uses, self.outer_kept, self.strided = saved

    def _reg(self, s: Set) -> int:
        have = self.regs.get(s.reg)
        ty = "v128" if s.lanes > 1 else kind(s.value.dtype)
        if have is None or have[1] != s.lanes or have[2] != ty:
            have = self.regs[s.reg] = (self.b.local(ty, s.reg), s.lanes, ty)  # type: ignore[arg-type]
        return have[0]

    def _store(self, s: Store) -> None:
        terms, lane = s.index.split()
        size = self.sizes[s.operand]
        dtype = self.operands[s.operand].dtype
        dtype = "u16" if dtype in ("f16", "bf16") else dtype
        if s.lanes == 1:
            at = self.place(s.operand, terms, s.index.const * size)
            self.value(s.value)
            self.b.store(STORES[dtype], offset=at)
            return
        if gathers(s.index):
            self._scattered(s, dtype)
            return
        wide = widens(s.value)
        whole = saturated(s.value, dtype) if lane == 1 and s.count == 4 else None
        self.value(s.value.args[0] if wide else whole or s.value)
        value = self.b.local("v128")
        self.b.set(value)
        if wide:
            source = s.value.args[0].dtype
            at = self.place(s.operand, terms, s.index.const * size)
            store_widened(self.b, source, value, at, s.count, lane * size)
            self.b.release(value)
            return
        if self.strided is not None and self.strided.store(s, value):
            return
        if self.joined is not None and self.joined.store(s, value):
            return
        at = self.place(s.operand, terms, s.index.const * size)
        store_vector(self.b, dtype, value, at, s.count, lane * size)
        self.b.release(value)

    def _scattered(self, s: Store, dtype: str) -> None:
        """Each lane to a place that is known at run time only, one after the other."""
        self.value(s.value.args[0] if widens(s.value) else s.value)
        value = self.b.local("v128")
        self.b.set(value)
        for n in range(s.count):
            env = {LANE: Index(n)}
            index = s.index.subst(env, partial(rewrite, env=env))
            at = self.place(s.operand, index.terms, index.const * self.sizes[s.operand])
            if widens(s.value):
                store_widened(self.b, s.value.args[0].dtype, value, at, 1, 0, first=n)
            else:
                store_vector(self.b, dtype, value, at, 1, 0, first=n)
        self.b.release(value)

    # ---- values ----

    def hoist(self, e: Expr) -> None:
        """Computes a vector value ahead of a loop and keeps it."""
        self.lanes = 4
        self.alone(e)
        local = self.b.local("v128")
        self.b.set(local)
        self.hoisted[e] = local

    def value(self, e: Expr) -> None:
        """Pushes `e` at the current width, from a local where it was computed before."""
        lanes = self.lanes
        wide = lanes > 1
        if e.op == "reg":
            held, width, _ = self.regs[e.attr]
            if width == lanes:
                self.b.get(held)
            elif wide:
                self.vector(e)
            else:
                self.scalar(e)
            return
        if wide and e in self.hoisted:
            self.b.get(self.hoisted[e])
            return
        uses, kept = self.uses, self.kept
        left = uses.get(e)
        if left is None:
            uses, kept = self.outer_uses, self.outer_kept
            left = uses.get(e, 1)
        local = kept.get(e)
        if local is not None:
            self.b.get(local)
            uses[e] = left - 1
            if left == 1:
                self.b.release(kept.pop(e))
            return
        if wide:
            self.vector(e)
        else:
            self.scalar(e)
        if left > 1 and (wide or e.op not in ("const", "axis")):
            local = self.b.local("v128" if wide else kind(e.dtype))  # type: ignore[arg-type]
            self.b.tee(local)
            kept[e] = local
            uses[e] = left - 1
