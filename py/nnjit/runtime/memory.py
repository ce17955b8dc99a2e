"""Addresses: constants that stay, activations that share an arena by their lifetimes.

SessionMemory belongs to a session and lives across its plans: a weight that a second shape packs alike is
not loaded again. Everything is aligned to 64 bytes and may be over-read by as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nnjit.codegen.wasm.team_words import CONTROL_END

PAGE = 65536
ALIGN = 64
SLACK = 64
"""Bytes that a vector load may read past a buffer's end."""
FIRST = CONTROL_END
"""Below lie the null guard and the control words (codegen/wasm/team_words.py)."""
LIMIT = 65536 * PAGE


def aligned(n: int) -> int:
    return -(-n // ALIGN) * ALIGN


@dataclass(slots=True)
class Span:
    """A buffer to place: alive from step `first` to step `last`, both included."""

    nbytes: int
    first: int
    last: int
    address: int = -1


@dataclass(slots=True)
class SessionMemory:
    """top: first free byte. constants: content key -> address. arena: (address, bytes) shared by plans."""

    top: int = FIRST
    constants: dict[str, int] = field(default_factory=dict)
    arena: tuple[int, int] = (0, 0)
    next_slot: int = 0

    def take(self, nbytes: int) -> int:
        """A new permanent region."""
        address = self.top
        self.top = aligned(self.top + nbytes + SLACK)
        return address

    def constant(self, key: str, nbytes: int) -> tuple[int, bool]:
        """The address of a constant and whether it has to be loaded (it is new)."""
        if key in self.constants:
            return self.constants[key], False
        address = self.constants[key] = self.take(nbytes)
        return address, True

    def arena_of(self, nbytes: int) -> int:
        """The address of an arena of at least `nbytes`: the session's, or a new one when it is too small.

        Only one plan of a session runs at a time, so they share it. One that has to be replaced is outgrown
        by half, so that shapes which grow step by step leave little behind."""
        if nbytes > self.arena[1]:
            size = max(nbytes, self.arena[1] * 3 // 2)
            self.arena = (self.take(size), size)
        return self.arena[0]

    def state(self) -> tuple[int, dict[str, int], tuple[int, int], int]:
        """What `restore` brings back."""
        return self.top, dict(self.constants), self.arena, self.next_slot

    def restore(self, state: tuple[int, dict[str, int], tuple[int, int], int]) -> None:
        self.top, self.constants, self.arena, self.next_slot = state

    def copy(self) -> SessionMemory:
        return replace(self, constants=dict(self.constants))

    @property
    def pages(self) -> int:
        return -(-(self.top + SLACK) // PAGE)


def place(spans: Sequence[Span]) -> int:
    """Offsets for buffers so that those alive at the same time do not meet; returns the bytes needed.

    Largest first, each at the lowest offset that is free over its lifetime (greedy by size: Pisarchyk and Lee,
    "Efficient Memory Management for Deep Neural Net Inference", 2020)."""
    placed: list[Span] = []
    total = 0
    for span in sorted(spans, key=lambda s: -s.nbytes):
        size = aligned(span.nbytes + SLACK)
        at = 0
        for other in placed:
            if other.last < span.first or span.last < other.first:
                continue
            if other.address >= at + size:
                break
            at = max(at, aligned(other.address + other.nbytes + SLACK))
        span.address = at
        total = max(total, at + size)
        # kept in order of address, so that the first gap is found by walking
        low, high = 0, len(placed)
        while low < high:
            mid = (low + high) // 2
            if placed[mid].address < at:
                low = mid + 1
            else:
                high = mid
        placed.insert(low, span)
    return total
