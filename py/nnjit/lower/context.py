"""Context: one kernel being lowered. Rules read tensors through it; it numbers the operands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.expr import Expr, Index, const, guarded, load
from nnjit.codegen.spec import Axis, Operand
from nnjit.graph.ir import Node, Value
from nnjit.lower.backend import packs_bytes
from nnjit.lower.registry import INJECTIVE, POINTWISE, Unsupported, kind
from nnjit.lower.tensors import Buffer

if TYPE_CHECKING:
    from nnjit.lower.kernels import Kernels
    from nnjit.lower.ops.linear import Window


@dataclass(slots=True)
class Bound:
    """An operand of the kernel and what it points at: `offset` elements into `buffer`."""

    buffer: Buffer
    offset: int
    dtype: str
    size: int
    role: str = "in"


class Context:
    """Operands in the order of first use. `inside` holds values computed in this kernel (an epilogue's)."""

    def __init__(self, build: Kernels) -> None:
        self.build = build
        self.tensors = build.tensors
        self.bound: list[Bound] = []
        self._by_place: dict[tuple[int, int, str], int] = {}
        self.inside: dict[Value, Expr] = {}
        self.inlined: set[Node] = set()

    # ---- what rules call ----

    def axes(self, shape: Sequence[int], prefix: str = "i") -> tuple[list[Axis], list[Index]]:
        """One axis a dimension (i0, i1, ...) and the index of the element they name; extents of 1 need none."""
        axes, idx = [], []
        for d, n in enumerate(shape):
            if n == 1:
                idx.append(Index())
            else:
                axes.append(Axis(f"{prefix}{d}", n))
                idx.append(Index.of(f"{prefix}{d}"))
        return axes, idx

    def read(self, value: Value | None, idx: Sequence[Index]) -> Expr:
        """Element `idx` (one Index for each dimension) of a tensor."""
        assert value is not None
        if value in self.inside:
            return self.inside[value]
        scalar = self.scalar(value)
        if scalar is not None:
            return scalar
        if value.producer is not None and value.producer in self.inlined:
            return self.element(value.producer, idx)
        at, index = self._place(value, idx)
        return load(at, index, value.dtype)

    def read_padded(
        self, value: Value | None, idx: Sequence[Index], bounds: Sequence[tuple[Index, int]], other: Expr
    ) -> Expr:
        """Element `idx` where every (i, n) of `bounds` has 0 <= i < n, else `other`."""
        assert value is not None
        at, index = self._place(value, idx)
        return guarded(at, index, value.dtype, tuple(bounds), other)

    def padded(self, value: Value, window: Window) -> Value:
        """`value` with the border that `window` reaches into, filled with zeros: made by a kernel before this one."""
        return self.build.padded(value, window.begin, window.after)

    def broadcast(self, value: Value | None, idx: Sequence[Index], shape: Sequence[int]) -> Expr:
        """The element of `value` that numpy broadcasting pairs with output position `idx` of `shape`."""
        assert value is not None and value.shape is not None
        lead = len(shape) - len(value.shape)
        at = [Index() if n == 1 else i for i, n in zip(idx[lead:], value.shape, strict=True)]
        return self.read(value, at)

    def element(self, node: Node, idx: Sequence[Index]) -> Expr:
        """The output of a pointwise or injective node at `idx`, as part of this kernel."""
        shape = node.outputs[0].shape
        assert shape is not None
        if kind(node) == "pointwise":
            args = [None if v is None else self.broadcast(v, idx, shape) for v in node.inputs]
            return POINTWISE[node.op](node, *args)
        return INJECTIVE[node.op](self, node, idx)

    def scalar(self, value: Value | None) -> Expr | None:
        """A constant of one element (or all equal ones), as a constant of the kernel."""
        if value is None or value.const is None or value.const.array is None or value.dtype not in SIZES:
            return None
        array = value.const.array
        if array.size == 0 or array.size > 64 or value.dtype == "bf16":
            return None
        first = array.reshape(-1)[0]
        # bit-equal, so that NaN and -0 count; a short vector of equal numbers is a scalar too
        if array.size > 1 and array.tobytes() != first.tobytes() * array.size:
            return None
        return const(first.item(), value.dtype)

    # ---- operands ----

    def _place(self, value: Value, idx: Sequence[Index]) -> tuple[int, Index]:
        buffer, layout = self.tensors.place(value)
        if len(idx) != len(layout.shape):
            raise Unsupported(f"{value.name} has rank {len(layout.shape)}, read with {len(idx)} indices")
        return self.operand(buffer, layout.offset, value.dtype, layout.span), layout.index(idx)

    def operand(self, buffer: Buffer, offset: int, dtype: str, size: int, role: str = "in") -> int:
        """The operand number of a place; the same place is one operand (an output is always its own)."""
        key = (id(buffer), offset, f"{role} {dtype}")
        at = self._by_place.get(key)
        if at is None:
            at = self._by_place[key] = len(self.bound)
            self.bound.append(Bound(buffer, offset, dtype, size, role))
        self.bound[at].size = max(self.bound[at].size, size)
        return at

    def scratch(self, dtype: str, size: int) -> int:
        """The operand number of `size` elements of memory for each point of the kernel by itself."""
        self.bound.append(Bound(Buffer("scratch", 0), 0, dtype, size, "scratch"))
        return len(self.bound) - 1

    def _packed(self, b: Bound) -> bool:
        """Whether a GPU has an operand as the bytes of the model: constants that no kernel makes."""
        return b.dtype in ("i8", "u8") and b.buffer.source is not None and packs_bytes(self.build.target)

    def operands(self) -> tuple[Operand, ...]:
        return tuple(
            Operand(b.dtype, b.size, b.role, b.role == "in" and b.buffer.constant, self._packed(b))
            for b in self.bound
        )
