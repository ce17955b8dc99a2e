"""Walks over expressions: the nodes below one, the indices that a node holds, a new expression with parts replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from nnjit.codegen.expr import GATHER, Access, Expr, Index


def rewrite(
    e: Expr, env: Mapping[str, Index], leaf: Callable[[Expr], Expr | None] | None = None,
    memo: dict[Expr, Expr] | None = None,
) -> Expr:  # fmt: skip
    """`e` with axes replaced by `env`; `leaf` may replace any node before its children are looked at."""
    return _Rewriter(env, leaf, {} if memo is None else memo)(e)


class _Rewriter:
    """Not a function that calls itself: that is a cycle, and its memo would stay until the next collection."""

    __slots__ = ("env", "leaf", "memo")

    def __init__(
        self, env: Mapping[str, Index], leaf: Callable[[Expr], Expr | None] | None, memo: dict[Expr, Expr]
    ) -> None:
        self.env, self.leaf, self.memo = env, leaf, memo

    def __call__(self, x: Expr) -> Expr:
        done = self.memo.get(x)
        if done is not None:
            return done
        new = self.leaf(x) if self.leaf else None
        if new is None:
            op, args = x.op, x.args
            if args:
                args = tuple([self(a) for a in args])
            if op == "load":
                access: Access = x.attr
                guard = access.guard
                if guard:
                    guard = tuple([(i.subst(self.env, self), n) for i, n in guard])
                new = Expr(
                    "load", x.dtype, args, Access(access.operand, access.index.subst(self.env, self), guard)
                )
            elif op == "axis":
                new = Expr("axis", x.dtype, args, x.attr.subst(self.env, self))
            else:
                new = x if args == x.args else Expr(op, x.dtype, args, x.attr)
        self.memo[x] = new
        return new


def walk(e: Expr, seen: set[Expr] | None = None) -> Iterator[Expr]:
    """Each distinct node below and including `e` once, run-time index terms included; none of those in `seen`, which
    gets them."""
    seen = set() if seen is None else seen
    stack = [e]
    while stack:
        x = stack.pop()
        if x in seen:
            continue
        seen.add(x)
        yield x
        stack.extend(x.args)
        if x.facts & GATHER:
            for i in indices(x):
                stack.extend(a for a, _ in i.terms if not isinstance(a, str))


def indices(e: Expr) -> tuple[Index, ...]:
    """The affine indices a node itself holds."""
    if e.op == "load":
        return (e.attr.index, *(i for i, _ in e.attr.guard))
    return (e.attr,) if e.op == "axis" else ()
