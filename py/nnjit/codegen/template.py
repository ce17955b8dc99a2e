"""One expression at many places: the copies of a tile's body differ only in where their axes are.

    a = Template(load a[4*m + k] * load b[k])
    a({"m": Index(1)}), a({"m": Index(2)}), ...        what rewrite(e, env, leaf) gives for each

The expression is taken apart once. What reads memory is remembered by where its own axes are, because neighbouring
copies read the same rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nnjit.codegen.expr import GATHER, GUARD, Access, Expr, Index
from nnjit.codegen.rewriting import rewrite, walk

Env = Mapping[str, Index]
Leaf = Callable[[Expr], Expr | None]
Moved = dict[tuple[Index | None, ...], Expr]


class Template:
    """`special` says which nodes a call's `leaf` is asked about; it replaces no others."""

    __slots__ = ("_fixed", "_special", "_steps")

    def __init__(self, root: Expr, special: Callable[[Expr], bool]) -> None:
        self._special = special
        order: dict[Expr, bool] = {}
        self._operands_first(root, order)
        varies: dict[Expr, None] = {}
        for e in order:
            # a gather may have special nodes in its index, a guarded load as the value outside
            if e.axes() or e.facts & (GATHER | GUARD) or special(e) or any(a in varies for a in e.args):
                varies[e] = None
        self._fixed = [e for e in order if e not in varies]
        at = {e: n for n, e in enumerate([*self._fixed, *varies])}
        # (node, places of its operands among the values before it, its axes, what it became where they were)
        self._steps: list[tuple[Expr, list[int], tuple[str, ...], Moved | None]] = []
        for e in varies:
            known: Moved | None = {} if self._is_read(e) else None
            args = [] if order[e] else [at[a] for a in e.args]
            self._steps.append((e, args, tuple(e.axes()), known))

    def _is_read(self, e: Expr) -> bool:
        """Whether a node depends on nothing but where its own axes are."""
        if e.op not in ("load", "axis") or e.facts & GATHER or self._special(e):
            return False
        return not any(x.axes() or self._special(x) for a in e.args for x in walk(a))

    def _is_whole(self, e: Expr) -> bool:
        """Whether a node is rewritten with all below it, if it is at all."""
        return not e.args or e.op in ("load", "axis") or self._special(e)

    def _operands_first(self, e: Expr, order: dict[Expr, bool]) -> None:
        """Fills `order`: by node, what comes below it first, whether it is whole."""
        whole = self._is_whole(e)
        if not whole:
            for a in e.args:
                if a not in order:
                    self._operands_first(a, order)
        order[e] = whole

    def __call__(self, env: Env, leaf: Leaf) -> Expr:
        """The expression with its axes replaced by `env`, and special nodes by what `leaf` makes of them."""
        values = self._fixed.copy()
        at = env.get
        for e, args, axes, known in self._steps:
            if args:
                values.append(Expr(e.op, e.dtype, tuple([values[i] for i in args]), e.attr))
            elif known is None:
                values.append(leaf(e) or rewrite(e, env, leaf))
            else:
                where = tuple([at(name) for name in axes])
                new = known.get(where)
                if new is None:
                    new = known[where] = _moved(e, env)
                values.append(new)
        return values[-1]


def _moved(e: Expr, env: Env) -> Expr:
    """A load or an axis with its axes replaced."""
    if e.op == "axis":
        return Expr("axis", e.dtype, (), e.attr.subst(env))
    access: Access = e.attr
    guard = tuple([(i.subst(env), n) for i, n in access.guard])
    return Expr("load", e.dtype, e.args, Access(access.operand, access.index.subst(env), guard))
