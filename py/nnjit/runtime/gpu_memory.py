"""GPU buffers: constants that stay for a session, activations that take turns in a plan's buffers.

WebGPU has no addresses: a buffer is bound whole or from an aligned offset on, and one that is written in a dispatch
cannot be read there through another binding. So each activation gets a buffer of its own for as long as it lives, and
buffers are used again, instead of one arena being cut up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from nnjit.graph.passes.merging import Joined
from nnjit.lower.tensors import Buffer
from nnjit.runtime.memory import Span


@dataclass(slots=True)
class GpuMemory:
    """constants: what a constant buffer holds -> its id, over all plans of a session. sizes: bytes of each id's.
    joined: which weights lie in one constant."""

    constants: dict[str, int] = field(default_factory=dict)
    next: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
    joined: Joined = field(default_factory=Joined)

    def constant(self, key: str, nbytes: int = 0) -> tuple[int, bool]:
        """The id of a constant, and whether it has to be loaded (it is new)."""
        if key in self.constants:
            return self.constants[key], False
        at = self.constants[key] = self.next
        self.sizes[at] = nbytes
        self.next += 1
        return at, True

    @property
    def top(self) -> int:
        """Bytes of all constants."""
        return sum(self.sizes.get(at, 0) for at in set(self.constants.values()))

    def state(self) -> tuple[dict[str, int], int, Joined]:
        """For `restore`."""
        return dict(self.constants), self.next, self.joined.copy()

    def restore(self, state: tuple[dict[str, int], int, Joined]) -> None:
        """What was placed since then was never loaded, or is no more."""
        self.constants, self.next, self.joined = dict(state[0]), state[1], state[2].copy()

    def copy(self) -> GpuMemory:
        return GpuMemory(dict(self.constants), self.next, dict(self.sizes), self.joined.copy())

    def keep(self, used: Collection[int]) -> list[int]:
        """Forgets all constants but these; the ids of those forgotten."""
        gone = sorted(set(self.constants.values()) - set(used))
        self.constants = {key: at for key, at in self.constants.items() if at in used}
        return gone


def padded(nbytes: int) -> int:
    """Whole vectors: the last one of a buffer is read in full."""
    return -(-max(nbytes, 1) // 16) * 16


def shared(spans: Mapping[Buffer, Span]) -> tuple[dict[Buffer, int], list[int]]:
    """A buffer's number for each span, and the size of each: those alive at the same time never share one.

    Largest first, each in the smallest that is free over its lifetime: since none before it is smaller, no buffer
    ever grows."""
    taken: list[list[Span]] = []
    sizes: list[int] = []
    at: dict[Buffer, int] = {}
    for buffer, span in sorted(spans.items(), key=lambda item: -item[1].nbytes):
        free = (
            n
            for n, others in enumerate(taken)
            if all(o.last < span.first or span.last < o.first for o in others)
        )
        best = min(free, key=lambda n: sizes[n], default=-1)
        if best < 0:
            best = len(taken)
            taken.append([])
            sizes.append(padded(span.nbytes))
        taken[best].append(span)
        at[buffer] = best
    return at, sizes
