"""Attention: softmax(scale q k' + bias) v, as one kernel or as three.

The node is nnjit's own, see graph/passes/attention.py. One kernel has four stages over a query row, whose scores
lie in scratch memory: the product with the keys, the maximum, e^(s - max) and its sum, the product with the values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnjit.codegen.dtypes import FLOATS
from nnjit.codegen.expr import Expr, Index, acc, axis, cast, compare, const, load, local, op, select
from nnjit.codegen.spec import Axis, Stage
from nnjit.graph.ir import Node, Value
from nnjit.graph.passes.attention_masks import FREE, Reach, reach
from nnjit.lower.context import Context
from nnjit.lower.layouts import transposed_reader
from nnjit.lower.ops.compose import compute, output, shape_of, temporary
from nnjit.lower.ops.linear import accumulate, product
from nnjit.lower.registry import Computation, Unsupported, composite, computation

if TYPE_CHECKING:
    from nnjit.lower.build import Build

OP = "ScaledDotProductAttention"
LOWEST = -3.4028234663852886e38


class Parts:
    """Axes, indices and shapes of one attention node. A key or value head serves `group` query heads."""

    def __init__(self, node: Node) -> None:
        self.q, self.k, self.v = node.inputs[:3]
        self.bias, self.seen = node.input(3), node.input(4)
        self.batch, self.heads, self.rows, self.depth = shape_of(self.q)
        _, self.kv_heads, self.keys, _ = shape_of(self.k)
        self.width = shape_of(self.v)[3]
        self.group = self.heads // self.kv_heads
        self.scale = float(node.attrs["scale"])
        self.softcap = float(node.attrs.get("softcap", 0.0))
        self.offset = node.attrs.get("causal_offset")
        self.replace = node.attrs.get("replace")
        empty = node.attrs.get("empty", "nan")
        self.zero, self.guarded = empty != "nan", empty == "guarded"
        assert self.q is not None
        self.dtype = self.q.dtype
        self.wide = accumulate(self.dtype)
        if self.dtype not in FLOATS or self.keys == 0 or self.depth == 0:
            raise Unsupported(f"attention of {self.dtype} over {self.keys} keys of {self.depth}")
        self.axes = [
            Axis("b", self.batch),
            Axis("h", self.kv_heads),
            Axis("g", self.group),
            Axis("m", self.rows),
        ]
        self.head = Index(0, {"h": self.group, "g": 1})

    def at(self, last: str, row: str = "m") -> list[Index]:
        """An element of q, of the scores or of the result, by query head."""
        return [Index.of("b"), self.head, Index.of(row), Index.of(last)]

    def dot(self, ctx: Context) -> Expr:
        """A term of a score: sum over d."""
        key = ctx.read(self.k, [Index.of("b"), Index.of("h"), Index.of("n"), Index.of("d")])
        return product(ctx.read(self.q, self.at("d")), key)

    def score(self, ctx: Context) -> Expr:
        """The score that the softmax sees, from the finished dot product."""
        wide = self.wide
        s = op("mul", acc(wide), const(self.scale, wide))
        if self.softcap:
            s = op(
                "mul",
                Expr("tanh", wide, (op("div", s, const(self.softcap, wide)),)),
                const(self.softcap, wide),
            )
        if self.bias is not None:
            bias = self.added(ctx, Index.of("n"))
            s = op("add", s, bias)
            if self.replace is not None:
                s = select(compare("le", bias, const(float(self.replace), wide)), bias, s)
            if self.seen is not None:
                s = select(self.masking(ctx, self.seen, Index.of("n")), s, bias)
        if self.offset is not None:
            seen = compare("le", axis(Index.of("n")), axis(Index(int(self.offset), {"m": 1})))
            s = select(seen, s, const(float("-inf"), wide))
        return s

    def added(self, ctx: Context, key: Index) -> Expr:
        return cast(self.masking(ctx, self.bias, key), self.wide)

    def masking(self, ctx: Context, x: Value | None, key: Index) -> Expr:
        """What `x`, which broadcasts to the scores, has at a key."""
        shape = (self.batch, self.heads, self.rows, self.keys)
        return ctx.broadcast(x, [*self.at("n")[:3], key], shape)

    def top(self) -> Expr:
        """What is subtracted: a row without any key keeps its exponentials at 0 instead of NaN if it is to be 0."""
        return op("max", acc(self.wide), const(LOWEST, self.wide)) if self.zero else acc(self.wide)

    def inverse(self) -> Expr:
        wide = self.wide
        one = op("div", const(1, wide), acc(wide))
        return select(compare("eq", acc(wide), const(0, wide)), const(0, wide), one) if self.zero else one

    def weighed(self, x: Expr) -> Expr:
        """`x` over the sum of exponentials; 0 in a row whose softmax is NaN throughout, where that is guarded."""
        total = local("total", self.wide)
        y = op("mul", x, total)
        return select(compare("ne", total, total), const(0, self.wide), y) if self.guarded else y

    def useful(self, ctx: Context) -> Expr | None:
        """From which key on a row has nothing to read: all scores there are lower than any float of them tells."""
        known = Reach(int(self.offset), self.bias is None or self.zero) if self.offset is not None else None
        if known is None and self.bias is not None:
            known = reach(self.bias, self.rows, self.keys)
        if known is None:
            return None
        end = op("max", axis(Index(known.offset + 1, {"m": 1})), const(1, "i32"))
        if known.certain or self.offset is not None:
            return end
        # a row whose keys are all masked sees every key alike, those past its end too
        free = compare("gt", self.added(ctx, Index()), const(FREE, self.wide))
        return select(free, end, const(self.keys, "i32"))


@computation(OP)
def attention(ctx: Context, node: Node, out: int) -> Computation:
    """One kernel over all query rows."""
    p = Parts(node)
    wide = p.wide
    scores = ctx.scratch(wide, p.keys)
    first = Stage(
        (Axis("n", p.keys),), (Axis("d", p.depth),), "sum", p.dot(ctx), p.score(ctx), scores, Index.of("n")
    )
    s = load(scores, Index.of("r"), wide)
    along = (Axis("r", p.keys),)
    top = Stage((), along, "pmax", s, p.top(), keep="top")
    power = Expr("decay", wide, (op("sub", s, local("top", wide)),))
    total = Stage((), along, "sum", power, p.inverse(), keep="total", terms=(scores, Index.of("r")))
    value = cast(ctx.read(p.v, [Index.of("b"), Index.of("h"), Index.of("k"), Index.of("e")]), wide)
    end = p.useful(ctx)
    return Computation(
        p.axes, p.at("e"), cast(p.weighed(acc(wide)), p.dtype), own=[Axis("e", p.width)],
        reduce=[Axis("k", p.keys)], combine="sum", body=op("mul", load(scores, Index.of("k"), wide), value),
        stages=[first, top, total], useful=[] if end is None else [(name, end) for name in ("n", "r", "k")],
        name="attention",
    )  # fmt: skip


@composite(OP)
def split(build: Build, node: Node) -> None:
    """Three kernels, scores in memory between them: what a target without scratch memory does."""
    p = Parts(node)
    shape = (p.batch, p.heads, p.rows, p.keys)
    scores = temporary(build, node, "scores", p.wide, shape)
    n = Axis("n", p.keys)

    def dots(ctx: Context) -> Computation:
        body = p.dot(ctx)
        return Computation([*p.axes, n], p.at("n"), p.score(ctx), reduce=[Axis("d", p.depth)], combine="sum",
                           body=body, name="attention_scores")  # fmt: skip

    compute(build, node, scores, dots)
    weights = temporary(build, node, "weights", p.wide, shape)

    def softmax(ctx: Context) -> Computation:
        s = ctx.read(scores, p.at("r"))
        along = (Axis("r", p.keys),)
        power = Expr("decay", p.wide, (op("sub", s, local("top", p.wide)),))
        stages = [Stage((), along, "pmax", s, p.top(), keep="top"),
                  Stage((), along, "sum", power, p.inverse(), keep="total")]  # fmt: skip
        value = p.weighed(local("term", p.wide))
        return Computation(
            p.axes, p.at("r"), value, own=along, stages=stages, term=power, name="attention_softmax"
        )

    compute(build, node, weights, softmax)
    out: Value = node.outputs[0]
    output(build, node, layout=None if out in build.outputs else transposed_reader(out))

    def mix(ctx: Context) -> Computation:
        value = ctx.read(p.v, [Index.of("b"), Index.of("h"), Index.of("k"), Index.of("e")])
        body = op("mul", ctx.read(weights, p.at("k")), cast(value, p.wide))
        return Computation([*p.axes, Axis("e", p.width)], p.at("e"), cast(acc(p.wide), p.dtype),
                           reduce=[Axis("k", p.keys)], combine="sum", body=body, name="attention_values")  # fmt: skip

    compute(build, node, out, mix)
