"""How each ONNX operator is lowered: one table of rules, filled by the ops_* modules with decorators.

A rule says what one output element is; whether it becomes a kernel of its own, the end of another or part
of a reader is decided by `regions`. A rule raises `Unsupported` (with the reason) for a case it does not
cover: that node runs on the reference.

| decorator | the rule | gives |
|---|---|---|
| pointwise("Relu") | (node, *args: Expr) | the output element from the broadcast input elements |
| injective("Pad") | (ctx, node, idx) | the output element at `idx`, reading inputs anywhere with ctx.read |
| computation("MatMul") | (ctx, node, out) | a Computation: axes, stages, the last value |
| view("Transpose") | (node, layout) | the output's Layout over the input's buffer, or None: a copy is needed |
| composite("Concat") | (build, node) | emits any number of kernels through `build` |

An operator may have rules of several kinds: `when=` says for which nodes one is meant; the first in the
order of `kind` answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nnjit.codegen.expr import Expr, Index
from nnjit.codegen.spec import Axis, Stage
from nnjit.graph import extensions
from nnjit.graph.ir import Node
from nnjit.lower.layout import Layout

if TYPE_CHECKING:
    from nnjit.lower.build import Build
    from nnjit.lower.context import Context
    from nnjit.lower.regions import Region


class Unsupported(Exception):
    """This node (with these types, shapes or attributes) has no kernel; str() is the reason."""


@dataclass(slots=True)
class Computation:
    """A kernel before its epilogue: `stages` come first, then the last stage, whose `value` at output
    position `idx` (in terms of axes and own) may read the reduction of `body` as acc.

    layout: the memory order the output wants, None for row-major or what its reader asks for. useful: as in
    KernelSpec. term: what the last of `stages` reduces at the place of `idx`, read by `value` as local("term"): where
    the result has its type, it is stored there and not computed again."""

    axes: Sequence[Axis]
    idx: Sequence[Index]
    value: Expr
    own: Sequence[Axis] = ()
    reduce: Sequence[Axis] = ()
    combine: str = ""
    body: Expr | None = None
    stages: list[Stage] = field(default_factory=list)
    layout: Layout | None = None
    name: str = ""
    useful: Sequence[tuple[str, Expr]] = ()
    term: Expr | None = None


Pointwise = Callable[..., Expr]
Injective = Callable[["Context", Node, Sequence[Index]], Expr]
Compute = Callable[["Context", Node, int], Computation]
View = Callable[[Node, Layout], "Layout | None"]
Composite = Callable[["Build", Node], None]

POINTWISE: dict[str, Pointwise] = {}
INJECTIVE: dict[str, Injective] = {}
COMPUTE: dict[str, Compute] = {}
VIEWS: dict[str, View] = {}
COMPOSITES: dict[str, Composite] = {}


CONDITIONS: dict[tuple[str, str], Callable[[Node], bool]] = {}
"""(kind, operator): for which nodes that rule is meant, where an operator has rules of several kinds."""


def _into(kind: str, table: dict[str, Any]) -> Callable[..., Callable[[Any], Any]]:
    def decorator(*ops: str, when: Callable[[Node], bool] | None = None) -> Callable[[Any], Any]:
        def put(rule: Any) -> Any:
            for op in ops:
                table[op] = rule
                if when is not None:
                    CONDITIONS[kind, op] = when
            return rule

        return put

    return decorator


pointwise = _into("pointwise", POINTWISE)
injective = _into("injective", INJECTIVE)
computation = _into("computation", COMPUTE)
view = _into("view", VIEWS)
composite = _into("composite", COMPOSITES)

INTERNAL = "nnjit"
"""The domain of operators that passes make and no model has."""
TYPES = frozenset({"f32", "f16", "bf16", "f64", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool"})
"""Element types that kernels hold; anything else runs on the reference."""


Algorithm = Callable[["Build", "Region"], bool]
ALGORITHMS: dict[str, list[Algorithm]] = {}
"""Other ways to compute a whole region, tried before the anchor's computation: each lowers it or declines."""


def algorithm(op: str) -> Callable[[Algorithm], Algorithm]:
    """(build, region) -> whether it lowered the region."""

    def put(rule: Algorithm) -> Algorithm:
        ALGORITHMS.setdefault(op, []).append(rule)
        return rule

    return put


def kind(node: Node) -> str:
    """'pointwise', 'injective', 'computation', 'view', 'composite' or 'host'."""
    ours = node.domain in ("", INTERNAL) or extensions.schema(node.domain, node.op) is not None
    if not ours or node.captures:
        return "host"
    for v in (*node.inputs, *node.outputs):
        if v is not None and v.name != "" and (v.dtype not in TYPES or v.shape is None):
            return "host"
    for name, table in (
        ("pointwise", POINTWISE),
        ("view", VIEWS),
        ("injective", INJECTIVE),
        ("computation", COMPUTE),
        ("composite", COMPOSITES),
    ):
        if node.op in table:
            fits = CONDITIONS.get((name, node.op))
            if fits is None or fits(node):
                return name
    return "host"


KEPT = frozenset({"Range", "SequenceMap", "Bernoulli", "LinearAttention"})
"""Function operators whose definition has loops or randomness: the reference runs them whole."""


def has_kernel(node: Node) -> bool:
    """Whether a node is lowered as it is; otherwise an ONNX function operator is replaced by its definition."""
    if kind(node) != "host" or node.op in KEPT:
        return True
    return any(v is not None and v.name and v.shape is None for v in node.outputs)
