"""Layout: where the elements of a tensor lie in a buffer, as strides. Views are arithmetic on layouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from nnjit.codegen.expr import Atom, Index


@dataclass(frozen=True, slots=True)
class Layout:
    """Element [i0, i1, ...] of a tensor of `shape` lies at `offset + sum(i * stride)` elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @staticmethod
    def row_major(shape: Sequence[int]) -> Layout:
        return Layout.ordered(shape, range(len(shape)))

    @staticmethod
    def ordered(shape: Sequence[int], order: Sequence[int]) -> Layout:
        """Dense, with the dimensions in `order` from outermost to innermost."""
        strides, step = [0] * len(shape), 1
        for d in reversed(order):
            strides[d] = step
            step *= shape[d]
        return Layout(tuple(shape), tuple(strides))

    @staticmethod
    def channels_last(shape: Sequence[int]) -> Layout:
        """N, spatial dimensions, C: what convolutions read and write."""
        return Layout.ordered(shape, [0, *range(2, len(shape)), 1])

    @property
    def dense(self) -> bool:
        """Row-major without gaps or offset: the bytes are the tensor's ONNX bytes."""
        return self.offset == 0 and self.contiguous

    @property
    def contiguous(self) -> bool:
        step = 1
        for n, s in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if n != 1 and s != step:
                return False
            step *= n
        return True

    @property
    def span(self) -> int:
        """Elements from the first to past the last one that the tensor touches."""
        if 0 in self.shape:
            return 0
        return 1 + sum([(n - 1) * abs(s) for n, s in zip(self.shape, self.strides, strict=True)])

    @property
    def size(self) -> int:
        return prod(self.shape)

    def index(self, at: Sequence[Index]) -> Index:
        """The place of one element relative to `offset`, which belongs to the pointer."""
        const = 0
        terms: dict[Atom, int] = {}
        for i, s, n in zip(at, self.strides, self.shape, strict=True):
            if n != 1:
                const += s * i.const
                for atom, coeff in i.terms:
                    terms[atom] = terms.get(atom, 0) + s * coeff
        return Index(const, terms)

    def permuted(self, perm: Sequence[int]) -> Layout:
        return Layout(tuple(self.shape[p] for p in perm), tuple(self.strides[p] for p in perm), self.offset)

    def expanded(self, shape: Sequence[int]) -> Layout:
        """Broadcast to `shape` (ONNX Expand): repeated dimensions get stride 0."""
        lead = len(shape) - len(self.shape)
        strides = [0] * lead
        for n, s, to in zip(self.shape, self.strides, shape[lead:], strict=True):
            strides.append(s if n == to else 0)
        return Layout(tuple(shape), tuple(strides), self.offset)

    def sliced(self, axis: int, start: int, step: int, count: int) -> Layout:
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + start * strides[axis]
        shape[axis], strides[axis] = count, strides[axis] * step
        return Layout(tuple(shape), tuple(strides), offset)

    def reshaped(self, shape: Sequence[int]) -> Layout | None:
        """The same elements in row-major order under `shape`, or None where only a copy has them so."""
        shape = tuple(shape)
        if 0 in shape:
            return Layout(shape, tuple(0 for _ in shape), self.offset)
        old = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n != 1]
        strides = [0] * len(shape)
        i = j = 0
        new = [d for d, n in enumerate(shape) if n != 1]
        while i < len(old) and j < len(new):
            i0, j0 = i, j
            have, want = old[i][0], shape[new[j]]
            i, j = i + 1, j + 1
            while have != want:
                if have < want:
                    have *= old[i][0]
                    i += 1
                else:
                    want *= shape[new[j]]
                    j += 1
            # old[i0:i] must be one run to be cut anew into new[j0:j]
            for a in range(i0, i - 1):
                if old[a][1] != old[a + 1][0] * old[a + 1][1]:
                    return None
            step = old[i - 1][1]
            for d in range(j - 1, j0 - 1, -1):
                strides[new[d]] = step
                step *= shape[new[d]]
        step = 1
        for d in range(len(shape) - 1, -1, -1):
            if shape[d] == 1:
                strides[d] = step
            step = strides[d] * shape[d]
        return Layout(shape, tuple(strides), self.offset)
