"""Nest -> one Wasm function (args, begin, end): statements, loops, pointers. Values are in `values`.

Addresses: for each operand and each loop there is a pointer that the loop bumps, so a load or store is one
local.get and an immediate. What a loop needs is collected before its header is printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

from nnjit.codegen.dtypes import SIZES, WIDE
from nnjit.codegen.expr import GATHER, Expr, Index, UnsupportedExpr, const, facts, op
from nnjit.codegen.loops import UNLIMITED, Decode, For, If, Nest, Set, Stmt, Store, Where, mapped
from nnjit.codegen.rewriting import indices
from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.legalize import HALVES, RULED, legal, stored
from nnjit.codegen.wasm.module import kernel_function, kernel_module
from nnjit.codegen.wasm.places import Key
from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wasm.team_words import LENGTHS
from nnjit.codegen.wasm.values import Values

_LOADS = facts(("load",))
HOISTED = 12
"""Loop invariants kept in v128 locals at most, fewer where accumulators already fill the registers."""


def emit(nest: Nest, target: Target) -> FunctionBuilder:
    """The kernel function of `nest`; legalizes its expressions for the target first."""
    return _Emitter(nest, target).function()


def emit_module(nest: Nest, target: Target, units: int = 0) -> bytes:
    """A module with this one kernel, exported as "kernel": what a tuned candidate ships as.

    units: the number of tiles that the step it takes over has in its plan, if another schedule made them. The
    kernel then takes begin and end in those units and does the same share of its own tiles."""
    emitter = _Emitter(nest, target)
    emitter.units = units or nest.tiles
    return kernel_module(emitter.function(), target.shared)


class _Emitter:
    """One function under construction: `b` takes its instructions, `v` prints values and knows registers and pointers.

    units: what begin and end count (see `emit_module`). memo: legal forms of expressions seen so far."""

    def __init__(self, nest: Nest, target: Target) -> None:
        self.nest = nest
        self.b = kernel_function(nest.name)
        self.v = Values(self.b, nest.operands, target)
        self.units = nest.tiles
        self.memo: dict[Expr, Expr] = {}
        self._found: dict[int, tuple[list[Stmt], tuple[Key, ...]]] = {}

    def function(self) -> FunctionBuilder:
        b, v = self.b, self.v
        loop = self.nest.body[0]
        assert isinstance(loop, For) and loop.kind == "parallel"
        if self.units != self.nest.tiles:
            self._rescale()
        operands = self.nest.operands
        half = any(o.dtype in HALVES for o in operands)
        body = mapped(
            loop.body,
            lambda e: legal(e, self.memo),
            (lambda operand, e: stored(e, operands[operand].dtype)) if half else None,
            RULED,
        )
        for i in sorted({k[0] for k in self._keys(body)}):
            at = b.local("i32", f"${i}")
            b.get(0)
            b.load("i32.load", offset=4 * i)
            b.set(at)
            v.pointers[i, ()] = at
        self._limits()
        counter = b.local("i32", loop.var)
        v.vars[loop.var] = counter
        b.get(1)
        b.set(counter)
        with b.block() as done:
            b.get(counter)
            b.get(2)
            b.op("i32.ge_s")
            b.br_if(done)
            with b.loop() as again:
                self._scope(body, {loop.var}, [])
                _bump(b, counter, 1)
                b.get(counter)
                b.get(2)
                b.op("i32.lt_s")
                b.br_if(again)
        b.finish()
        return b

    def _limits(self) -> None:
        """The lengths of the request in locals, from the control words."""
        b = self.b
        for name, length in self.nest.limits.items():
            at = b.local("i32", name)
            b.i32_const(length.b)
            for v, times in length.terms:
                _word(b, v.root)
                for a, r, s in v.steps:
                    for by, then in ((a, "i32.mul"), (r, "i32.add"), (s, "i32.div_u")):
                        b.i32_const(by)
                        b.op(then)
                b.i32_const(times)
                b.op("i32.mul")
                b.op("i32.add")
            b.i32_const(UNLIMITED)
            _word(b, length.terms[0][0].root)
            b.select()
            b.set(at)
            self.v.regs[name] = at, 1, "i32"

    def _rescale(self) -> None:
        """begin and end times tiles / units, rounded down: neighbouring shares still meet."""
        b = self.b
        for parameter in (1, 2):
            b.get(parameter)
            b.op("i64.extend_i32_u")
            b.i64_const(self.nest.tiles)
            b.op("i64.mul")
            b.i64_const(self.units)
            b.op("i64.div_u")
            b.op("i32.wrap_i64")
            b.set(parameter)

    def _block(self, body: list[Stmt], scope: frozenset[str]) -> None:
        """Statements in order; runs of straight-line ones share their common subexpressions."""
        i = 0
        while i < len(body):
            s = body[i]
            if isinstance(s, (Set, Store)):
                run: list[Set | Store] = []
                while i < len(body):
                    t = body[i]
                    if not isinstance(t, (Set, Store)) or (run and t.lanes != run[0].lanes):
                        break
                    run.append(t)
                    i += 1
                self.v.run(run)
                continue
            i += 1
            if isinstance(s, For):
                self._loop(s, scope)
            elif isinstance(s, If):
                self.b.get(self.v.vars[s.var])
                self.b.i32_const(s.below)
                self.b.op("i32.lt_s")
                with self.b.if_():
                    self._scope(s.then, set(), [], scope)
                    if s.orelse:
                        self.b.else_()
                        self._scope(s.orelse, set(), [], scope)
            elif isinstance(s, Where):
                self.v.integer(s.cond)
                with self.b.if_():
                    self._scope(s.then, set(), [], scope)
            elif not isinstance(s, Decode):
                raise UnsupportedExpr(f"{type(s).__name__} in WebAssembly: threads do not share a tile there")
            else:
                # the axes that the parallel loop is made of come together: pointers follow the last
                group = [s]
                while i < len(body) and isinstance(body[i], Decode):
                    group.append(body[i])  # type: ignore[arg-type]
                    i += 1
                self._decode(group)
                self._scope(body[i:], {d.var for d in group}, [], scope)
                return

    def _decode(self, group: list[Decode]) -> None:
        b = self.b
        for d in group:
            local = b.local("i32", d.var)
            b.get(self.v.vars[d.source])
            if d.div > 1:
                b.i32_const(d.div)
                b.op("i32.div_u")
            if d.mod:
                b.i32_const(d.mod)
                b.op("i32.rem_u")
            b.set(local)
            if d.fold:
                _fold(b, local, d.fold)
            self.v.vars[d.var] = local

    def _scope(
        self, body: list[Stmt], new: set[str], bumped: list[Key], outer: frozenset[str] = frozenset()
    ) -> None:
        """`body` with the pointers that the variables in `new` make possible, unless `bumped` by the loop."""
        scope = outer | new
        made: list[Key] = []
        for key in self._wanted(body, scope, new):
            if key not in self.v.pointers and key not in bumped:
                self._pointer(key, new)
                made.append(key)
        self._block(body, scope)
        self._forget(made)

    def _wanted(self, body: list[Stmt], scope: frozenset[str] | set[str], new: set[str]) -> list[Key]:
        """Pointers of `body` that depend on a variable in `new` and on nothing outside `scope`."""
        wanted: dict[Key, None] = {}
        for operand, terms in self._keys(body):
            ready: list[tuple[str | Expr, int]] = []
            depends = False
            for term in terms:
                a = term[0]
                if isinstance(a, str):
                    if a in scope:
                        ready.append(term)
                        depends = depends or a in new
                elif a.axes() <= scope:
                    ready.append(term)
                    depends = depends or not a.axes().isdisjoint(new)
            if depends:
                wanted[operand, tuple(ready)] = None
        return sorted(wanted, key=lambda k: len(k[1]))

    def _keys(self, body: list[Stmt]) -> tuple[Key, ...]:
        """(operand, terms without LANE) of every access below, each once; found once for each block."""
        known = self._found.get(id(body))
        if known is not None:
            return known[1]
        keys: dict[Key, None] = {}
        seen: set[Expr] = set()
        for s in body:
            if isinstance(s, For):
                keys |= dict.fromkeys(self._keys(s.body))
            elif isinstance(s, If):
                keys |= dict.fromkeys((*self._keys(s.then), *self._keys(s.orelse)))
            elif isinstance(s, Where):
                _add_loads([s.cond], keys, seen)
                keys |= dict.fromkeys(self._keys(s.then))
            elif isinstance(s, Set):
                _add_loads([s.value], keys, seen)
            elif isinstance(s, Store):
                keys[s.operand, s.index.split()[0]] = None
                _add_loads([s.value, *_run_time(s.index)[::-1]], keys, seen)
        # the block is kept with its keys: an id must not come back for another list
        self._found[id(body)] = body, tuple(keys)
        return self._found[id(body)][1]

    def _pointer(self, key: Key, new: set[str]) -> None:
        """A local with the address of `key`, from the nearest pointer of an outer scope."""
        operand, terms = key
        b = self.b
        # the parent must not depend on what is new: its pointer is made outside
        parent = tuple(t for t in terms if not _axes(t[0]) & new)
        at = b.local("i32", f"${operand}.{len(terms)}")
        self.v.address(operand, parent)
        for atom, coeff in terms:
            if (atom, coeff) not in parent:
                self.v.scaled(atom, coeff * SIZES[self.nest.operands[operand].dtype])
                b.op("i32.add")
        b.set(at)
        self.v.pointers[key] = at

    def _forget(self, keys: list[Key]) -> None:
        for key in keys:
            self.b.release(self.v.pointers.pop(key))

    def _loop(self, s: For, scope: frozenset[str]) -> None:
        b, v = self.b, self.v
        inside = scope | {s.var}
        bumped: list[tuple[Key, int]] = []
        for key in self._wanted(s.body, inside, {s.var}):
            operand, terms = key
            step = sum([c for a, c in terms if a == s.var])
            if [a for a, _ in terms if not isinstance(a, str) and s.var in a.axes()]:
                continue  # a gather by this loop's variable: computed in the body
            at = b.local("i32", f"${operand}.{s.var}")
            v.address(operand, tuple([t for t in terms if t[0] != s.var]))
            b.set(at)
            v.pointers[key] = at
            bumped.append((key, step * SIZES[self.nest.operands[operand].dtype]))
        counter = b.local("i32", s.var)
        v.vars[s.var] = counter
        end = self._end(s)
        hoisted = self._hoist(s)
        b.i32_const(0)
        b.set(counter)
        if end >= 0:  # it may be over before it begins
            b.get(end)
            b.i32_const(0)
            b.op("i32.gt_s")
        with b.if_() if end >= 0 else nullcontext(), b.loop() as again:
            self._scope(s.body, {s.var}, [k for k, _ in bumped], scope)
            for key, step in bumped:
                _bump(b, v.pointers[key], step)
            _bump(b, counter, 1)
            b.get(counter)
            if end >= 0:
                b.get(end)
            else:
                b.i32_const(s.extent)
            b.op("i32.lt_s")
            b.br_if(again)
        if end >= 0:
            b.release(end)
        for e in hoisted:
            b.release(v.hoisted.pop(e))
        self._forget([k for k, _ in bumped])
        b.release(counter)
        del v.vars[s.var]

    def _end(self, s: For) -> int:
        """A local with the number of iterations of a loop that has a limit, -1 for any other."""
        if s.limit is None:
            return -1
        at = self.b.local("i32", f"{s.var}.end")
        self.v.integer(op("min", s.limit, const(s.extent, "i32")))
        self.b.set(at)
        return at

    def _hoist(self, s: For) -> list[Expr]:
        """Invariants of an innermost vector loop, computed before it. Outer loops keep theirs inside: a
        value that is live across an inner loop takes a register from it."""
        stmts: list[Set | Store] = []
        for t in s.body:
            if not isinstance(t, (Set, Store)):
                return []
            if t.lanes == 4:
                stmts.append(t)
        written = {"%" + t.reg for t in s.body if isinstance(t, Set)} | {s.var}
        stored_to = facts(tuple({t.operand for t in s.body if isinstance(t, Store)}))
        room = min(HOISTED, 14 - len(written))  # of the 15 that x86-64 has without spills (see Target)
        made: list[Expr] = []
        seen: set[Expr] = set()
        for t in stmts:
            for e in _invariants(t.value, written, stored_to, seen):
                if len(made) >= room:
                    return made
                if e not in self.v.hoisted:
                    self.v.hoist(e)
                    made.append(e)
        return made


def _invariants(root: Expr, written: set[str], stored_to: int, seen: set[Expr]) -> Iterator[Expr]:
    """Maximal subexpressions that do not change in a loop and are worth a register, but for those in `seen`."""
    stack = [root]
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if not e.facts & stored_to and e.axes().isdisjoint(written):
            if e.op != "reg" and e.dtype not in WIDE:
                yield e
        else:
            stack += e.args[::-1]


def _add_loads(stack: list[Expr], keys: dict[Key, None], seen: set[Expr]) -> None:
    """The keys of every load below the expressions, the last first, that is not in `seen`."""
    while stack:
        e = stack.pop()
        if not e.facts & _LOADS or e in seen:
            continue
        seen.add(e)
        stack += e.args[::-1]
        if e.op == "load":
            keys[e.attr.operand, e.attr.index.split()[0]] = None
        if e.facts & GATHER:
            for i in indices(e)[::-1]:
                stack += _run_time(i)[::-1]


def _run_time(i: Index) -> list[Expr]:
    """The terms of an index that are not axes."""
    return [] if i.plain else [a for a, _ in i.terms if not isinstance(a, str)]


def _axes(atom: str | Expr) -> frozenset[str]:
    return frozenset((atom,)) if isinstance(atom, str) else atom.axes()


def _fold(b: FunctionBuilder, local: int, extent: int) -> None:
    """v = v odd ? extent - 1 - v / 2 : v / 2, by a mask of v's last bit."""
    mask = b.local("i32")
    b.i32_const(0)
    b.get(local)
    b.i32_const(1)
    b.op("i32.and")
    b.op("i32.sub")
    b.set(mask)
    b.get(local)
    b.i32_const(1)
    b.op("i32.shr_u")
    b.get(mask)
    b.op("i32.xor")
    b.get(mask)
    b.i32_const(extent)
    b.op("i32.and")
    b.op("i32.add")
    b.set(local)
    b.release(mask)


def _word(b: FunctionBuilder, root: int) -> None:
    """Pushes a number of the request; 0 where none is told."""
    b.i32_const(0)
    b.load("i32.load", offset=LENGTHS + 8 * root)


def _bump(b: FunctionBuilder, local: int, by: int) -> None:
    b.get(local)
    b.i32_const(by)
    b.op("i32.add")
    b.set(local)
