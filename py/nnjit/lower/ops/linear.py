"""Matrix products and convolutions: one stage, a sum of products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnjit.codegen.dtypes import FLOATS
from nnjit.codegen.expr import Expr, Index, acc, cast, const, op
from nnjit.codegen.schedule.facts import LANES
from nnjit.codegen.spec import Axis
from nnjit.graph.ir import Node
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.ops.widened import in_floats, widened
from nnjit.lower.registry import Computation, Unsupported, computation


def accumulate(dtype: str) -> str:
    """The type sums are kept in: f32 for 16-bit floats, the element type otherwise."""
    return "f32" if dtype in ("f16", "bf16") else dtype


def product(a: Expr, b: Expr) -> Expr:
    wide = accumulate(a.dtype)
    return op("mul", cast(a, wide), cast(b, wide))


def result(dtype: str) -> Expr:
    return cast(acc(accumulate(dtype)), dtype)


@dataclass(frozen=True)
class MatMulAxes:
    """Axes of a matrix product (k is the reduced one), the indices of both factors and of the result."""

    axes: list[Axis]
    left: list[Index]
    right: list[Index]
    out: list[Index]


def matmul_axes(ctx: Context, a: Sequence[int], b: Sequence[int]) -> MatMulAxes:
    """numpy.matmul: [..., m, k] x [..., k, n] with broadcast batch dimensions; vectors on either side."""
    if not a or not b:
        raise Unsupported("a product with a scalar")
    row, column = len(a) > 1, len(b) > 1
    lead_a, lead_b = a[:-2], b[:-2]
    rank = max(len(lead_a), len(lead_b))
    wide = zip(
        (1,) * (rank - len(lead_a)) + tuple(lead_a), (1,) * (rank - len(lead_b)) + tuple(lead_b), strict=True
    )
    axes, idx = ctx.axes([n if m == 1 else m for m, n in wide], "b")
    k = Index.of("k")
    m, n = ([Index.of("m")] if row else []), ([Index.of("n")] if column else [])
    axes += ([Axis("m", a[-2])] if row else []) + ([Axis("n", b[-1])] if column else [])

    def at(lead: Sequence[int], own: list[Index]) -> list[Index]:
        return [Index() if e == 1 else i for e, i in zip(lead, idx[rank - len(lead) :], strict=True)] + own

    return MatMulAxes(axes, at(lead_a, [*m, k]), at(lead_b, [k, *n]), [*idx, *m, *n])


@computation("MatMul")
def matmul(ctx: Context, node: Node, out: int) -> Computation:
    """The sum over k of a[..., m, k] b[..., k, n]."""
    a, b = node.inputs[0], node.inputs[1]
    assert a is not None and b is not None and a.shape is not None and b.shape is not None
    narrow = widened(ctx, node)
    if narrow is not None:
        return narrow
    m = matmul_axes(ctx, a.shape, b.shape)
    left = ctx.read(in_floats(ctx, a), m.left)
    return Computation(
        m.axes, m.out, result(a.dtype), reduce=[Axis("k", a.shape[-1])], combine="sum",
        body=product(left, ctx.read(b, m.right)), name="matmul",
    )  # fmt: skip


@computation("Gemm")
def gemm(ctx: Context, node: Node, out: int) -> Computation:
    """alpha A' B' + beta C."""
    a, b = node.inputs[0], node.inputs[1]
    assert a is not None and b is not None and a.shape is not None and b.shape is not None
    ta, tb = node.attrs.get("transA", 0), node.attrs.get("transB", 0)
    m, n, k = Index.of("m"), Index.of("n"), Index.of("k")
    left = ctx.read(a, [k, m] if ta else [m, k])
    right = ctx.read(b, [n, k] if tb else [k, n])
    rows, inner = (a.shape[1], a.shape[0]) if ta else a.shape
    columns = b.shape[0] if tb else b.shape[1]
    value: Expr = acc(accumulate(a.dtype))
    wide = value.dtype
    alpha, beta = node.attrs.get("alpha", 1.0), node.attrs.get("beta", 1.0)
    if alpha != 1.0:
        value = _scaled(value, alpha)
    c = node.inputs[2] if len(node.inputs) > 2 else None
    if c is not None and beta != 0.0:
        term = cast(ctx.broadcast(c, [m, n], (rows, columns)), wide)
        value = op("add", value, term if beta == 1.0 else _scaled(term, beta))
    return Computation(
        [Axis("m", rows), Axis("n", columns)], [m, n], cast(value, a.dtype), reduce=[Axis("k", inner)],
        combine="sum", body=product(left, right), name="gemm",
    )  # fmt: skip


def _scaled(x: Expr, by: float) -> Expr:
    if x.dtype not in FLOATS and not float(by).is_integer():
        raise Unsupported(f"a scale of {by} for {x.dtype}")
    return op("mul", x, const(by, x.dtype))


class Window:
    """Kernel shape, strides, dilations and resolved pads of a convolution or pooling, by dimension."""

    def __init__(self, node: Node, x: Sequence[int], kernel: Sequence[int], out: Sequence[int]) -> None:
        n = len(kernel)
        self.kernel = list(kernel)
        self.strides: list[int] = list(node.attrs.get("strides") or [1] * n)
        self.dilations: list[int] = list(node.attrs.get("dilations") or [1] * n)
        pads = list(node.attrs.get("pads") or [0] * (2 * n))
        auto = node.attrs.get("auto_pad", "NOTSET")
        if isinstance(auto, bytes):
            auto = auto.decode()
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            for d in range(n):
                reach = (self.kernel[d] - 1) * self.dilations[d] + 1
                total = max(0, (out[d] - 1) * self.strides[d] + reach - x[d])
                small = total // 2
                begin = small if auto == "SAME_UPPER" else total - small
                pads[d], pads[d + n] = begin, total - begin
        elif auto == "VALID":
            pads = [0] * (2 * n)
        self.begin: list[int] = pads[:n]
        self.input, self.output = list(x), list(out)
        # rows past the input that the last window reaches (ceil_mode reaches further than the pads)
        self.after = [
            max(
                0,
                (out[d] - 1) * self.strides[d]
                + (self.kernel[d] - 1) * self.dilations[d]
                + 1
                - self.begin[d]
                - x[d],
            )
            for d in range(n)
        ]

    @property
    def padded(self) -> bool:
        return any(self.begin) or any(self.after)

    def at(self, d: int, o: Index, k: Index) -> Index:
        """Input coordinate of window element k at output o, along spatial dimension d."""
        return o * self.strides[d] + k * self.dilations[d] + (-self.begin[d])


SPATIAL = ("z", "y", "x")


@computation("Conv")
def conv(ctx: Context, node: Node, out: int) -> Computation:
    """y[n, g, o, p] = bias + sum over i, k of x[n, g, i, p*stride + k*dilation - pad] w[g, o, i, k].

    The sum runs over the window and, fastest, over the input channels: with channels last in memory that is a
    matrix product of output positions by output channels. A padded input is copied with its border first."""
    x, w = node.inputs[0], node.inputs[1]
    assert x is not None and w is not None and x.shape is not None and w.shape is not None
    y = node.outputs[0].shape
    assert y is not None
    n = len(w.shape) - 2
    if not 1 <= n <= 3:
        raise Unsupported(f"Conv with {n} spatial dimensions")
    groups = int(node.attrs.get("group", 1))
    win = Window(node, x.shape[2:], w.shape[2:], y[2:])
    per_in, per_out = w.shape[1], w.shape[0] // groups
    depthwise = per_in == per_out == 1 and groups >= LANES
    # a depthwise window is unrolled in tiles whose borders are known: only channels in other order need a copy
    copied = win.padded
    if depthwise:
        copied = ctx.tensors.place(x)[1].strides[1] != 1
    source = ctx.padded(x, win) if copied else x
    begin = [0] * n if copied else win.begin
    names = SPATIAL[3 - n :]
    axes = [Axis("b", y[0]), Axis("g", groups), Axis("o", per_out)]
    axes += [Axis(f"o{names[d]}", y[2 + d]) for d in range(n)]
    reduce = [Axis(f"k{names[d]}", w.shape[2 + d]) for d in range(n)] + [Axis("i", per_in)]
    g, o, i = Index.of("g"), Index.of("o"), Index.of("i")
    place = []
    for d in range(n):
        p, k = Index.of(f"o{names[d]}"), Index.of(f"k{names[d]}")
        place.append(p * win.strides[d] + k * win.dilations[d] + -begin[d])
    at = [Index.of("b"), g * per_in + i, *place]
    if win.padded and not copied:
        bounds = [(place[d], x.shape[2 + d]) for d in range(n) if win.begin[d] or win.after[d]]
        left = ctx.read_padded(source, at, bounds, const(0, x.dtype))
    else:
        left = ctx.read(source, at)
    right = ctx.read(w, [g * per_out + o, i, *(Index.of(f"k{names[d]}") for d in range(n))])
    value: Expr = acc(accumulate(x.dtype))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        value = op("add", value, cast(ctx.read(bias, [g * per_out + o]), value.dtype))
    idx = [Index.of("b"), g * per_out + o, *(Index.of(f"o{names[d]}") for d in range(n))]
    return Computation(
        axes, idx, cast(value, x.dtype), reduce=reduce, combine="sum", body=product(left, right),
        layout=Layout.channels_last(y), name="conv" if per_in > 1 or per_out > 1 else "depthwise",
    )  # fmt: skip
