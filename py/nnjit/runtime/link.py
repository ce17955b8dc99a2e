"""Link: what every linker asks of lowered steps, whatever the target.

Takes the steps of a lowered graph; says which buffers hold feeds and outputs, which constants runs read and which only
steps at load, what each constant holds (so that a second plan of the session finds it), and which steps at load remain.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from statistics import median
from typing import Any, Protocol, TypeVar

from nnjit.codegen.spec import KernelSpec
from nnjit.graph.const import Const
from nnjit.graph.ir import Value
from nnjit.lower.lowered import Held, HostCall, Kernel, Lowered
from nnjit.lower.tensors import Buffer
from nnjit.lower.turns import loops, unrolled
from nnjit.runtime.memory import Span
from nnjit.runtime.plan import HostRef, HostSite

UNKNOWN = count()
"""Numbers of constants that the reference makes."""


class Linked(Protocol):
    """What plans of all targets have."""

    lowered: Lowered | None
    stats: dict[str, Any]


class Placed(Protocol):
    """A session's memory map, as far as it can be taken back."""

    def state(self) -> Any: ...

    def restore(self, state: Any) -> None: ...


P = TypeVar("P", bound=Linked)


def linked(make: Callable[[], P], lowered: Lowered, memory: Placed) -> P:
    """The plan that a linker makes of lowered steps, with what that took. `memory` is left as it was on failure."""
    start = time.perf_counter()
    saved = memory.state()
    try:
        plan = make()
    except Exception:
        memory.restore(saved)
        raise
    emitted = [k.emit_ms for k in lowered.steps if isinstance(k, Kernel) and k.emit_ms]
    plan.lowered = lowered
    plan.stats |= {
        "linkMs": 1e3 * (time.perf_counter() - start),
        "emitMs": {
            "median": median(emitted or [0.0]),
            "max": max(emitted or [0.0]),
            "sum": sum(emitted),
            "count": len(emitted),
        },
    }
    return plan


class Link:
    """`run`: the steps of an inference. `once`: those done at load. `loops`: whether the target's plans have loops."""

    loops = False
    key: str
    """Of the plan."""

    def __init__(self, lowered: Lowered) -> None:
        self.lowered = lowered
        self.once = unrolled(s for s in lowered.steps if s.once)
        run = [s for s in lowered.steps if not s.once]
        self.run = run if self.loops else unrolled(run)
        self.host_calls: dict[str, HostSite] = {}
        self.twins: dict[Buffer, Buffer] = {}
        """A constant of the same content as one that this plan loads -> that one."""

    def _ref(self, v: Value, name: str = "") -> Any:
        """Where a value lies, as the target's engine finds it: something with `to_js()`."""
        raise NotImplementedError

    def _host(self, s: HostCall) -> dict[str, Any]:
        """A host call as the engine sees it; what it runs is kept in `host_calls`."""
        call = f"h{len(self.host_calls)}"
        self.host_calls[call] = HostSite(s.nodes, s.inputs, s.outputs, s.reason)
        return {
            "call": call,
            "inputs": [self._ref(v).to_js() for v in s.inputs],
            "outputs": [self._ref(v).to_js() for v in s.outputs],
        }

    def _constant_outputs(self) -> dict[str, Any]:
        """Outputs that no run computes and that have no place in the engine: strings, what the target can't store."""
        g = self.lowered.graph
        outputs = zip(g.outputs, g.output_names, strict=True)
        return {
            name: v.const.numpy()
            for v, name in outputs
            if v.const is not None and isinstance(self._ref(v), HostRef)
        }

    def _once_nodes(self) -> dict[str, str]:
        kernels = [s for s in self.once if isinstance(s, Kernel)]
        return {name: s.spec.name for s in kernels for name in self.lowered.graph.names(s.nodes)}

    def _pinned(self) -> set[Buffer]:
        """Buffers that hold feeds or outputs: no step may reuse them in place (a feed may be read again)."""
        places = self.lowered.tensors.places
        values = (*self.lowered.graph.inputs, *self.lowered.graph.outputs)
        return {places[v].buffer for v in values if v in places}

    def _spans(self, alias: dict[Buffer, Buffer], nbytes: Callable[[Buffer], int]) -> dict[Buffer, Span]:
        """From which step to which each buffer that is not constant is in use; one in place of another with it."""
        spans: dict[Buffer, Span] = {}

        def touch(b: Buffer, at: int) -> None:
            if b.constant:
                return
            b = root_of(alias, b)
            span = spans.get(b)
            if span is None:
                spans[b] = Span(nbytes(b), at, at)
            else:
                span.first, span.last = min(span.first, at), max(span.last, at)

        end = len(self.run)
        places = self.lowered.tensors.places
        for v in self.lowered.graph.inputs:
            if v in places:
                touch(places[v].buffer, -1)
        for i, s in enumerate(self.run):
            for b in (*s.reads, *s.writes):
                touch(b, i)
        for v in self.lowered.graph.outputs:
            if v in places:
                touch(places[v].buffer, end)
        for first, last in loops(self.run):
            # a later turn may read what any step of an earlier one has left
            for i in range(first, last + 1):
                for b in (*self.run[i].reads, *self.run[i].writes):
                    touch(b, first)
                    touch(b, last)
        return spans

    def _constants(self) -> tuple[list[Buffer], dict[Buffer, Span]]:
        """Constants that runs read, and those that only steps at load read: staged in the arena meanwhile."""
        kept: dict[Buffer, None] = {}
        for s in self.run:
            for b in s.reads:
                if b.constant:
                    kept[b] = None
        staged: dict[Buffer, Span] = {}
        for i, s in enumerate(self.once):
            for b in (*s.reads, *s.writes):
                if b in kept:
                    continue
                span = staged.setdefault(b, Span(b.nbytes, i, i))
                span.last = i
        return list(kept), staged

    def _content_keys(self) -> dict[Buffer, str]:
        """What a constant buffer holds: the model's bytes it comes from, through the kernels that made it."""
        keys: dict[Buffer, str] = {}

        def source(b: Buffer) -> str | None:
            if b.source is not None and b not in keys:
                keys[b] = data_key(b.source)
            return keys.get(b)

        for s in self.run:
            for b in s.reads:
                source(b)
        for s in self.once:
            if isinstance(s, HostCall):
                continue
            inputs = [
                (source(b), at)
                for (b, at), o in zip(s.places, s.spec.operands, strict=True)
                if o.role == "in"
            ]
            if all(k is not None for k, _ in inputs):
                for b in s.writes:
                    # several kernels may write one buffer (a concatenation): the key grows with each
                    keys[b] = made_key(s.spec, inputs, keys.get(b, ""))
        return keys

    def _key_of(self, b: Buffer, keys: dict[Buffer, str]) -> str:
        """What the session's memory knows a constant by: what it holds, or where that is not known a name that it
        never had, because a plan may be made again under the same key."""
        return keys.get(b) or f"plan {self.key} {next(UNKNOWN)}"

    def _needed(self, fresh: Iterable[Buffer]) -> set[int]:
        """Steps at load whose results are not there yet, and the steps those read from."""
        wanted, needed = set(fresh), set()
        for i in range(len(self.once) - 1, -1, -1):
            s = self.once[i]
            # what has no address (a sequence, an unknown shape) no earlier plan can have left: it is made each time
            unaddressed = isinstance(s, HostCall) and any(
                v not in self.lowered.tensors.places for v in s.outputs
            )
            if unaddressed or any(b in wanted for b in s.writes):
                needed.add(i)
                wanted.update(s.reads)
        return needed


def _of_model(b: Buffer) -> str | None:
    """What a constant of the model's file is known by: its place, its type, and its length because rows of a constant
    may begin where it does."""
    return _lazy_key(b.source) if b.source is not None else None


def _lazy_key(const: Const) -> str | None:
    r = const.range
    if const.parts:
        keys = [_lazy_key(part) for part in const.parts]
        return None if None in keys else _short(f"joined {keys}")
    return f"range {const.dtype} {r.file} {r.start} {r.length}" if r else None


def data_key(const: Const) -> str:
    """What a constant's bytes are known by, read only where they are in memory. With their type: on a GPU true is
    a word and 1 of u8 a byte of one.

    Not Python's own hash: in a browser that is FNV of 32 bits, which does not change with the signs of two
    floats. BLAKE2b takes 3 ms a megabyte there, SHA-256 7.
    """
    if const.parts:
        return _short(f"joined {[data_key(part) for part in const.parts]}")
    known = _lazy_key(const)
    if known is None:
        digest = hashlib.blake2b(const.raw(), digest_size=16).hexdigest()
        known = f"data {const.dtype} {digest} {const.nbytes}"
    return known


def made_key(spec: KernelSpec, inputs: Sequence[tuple[str | None, int]], before: str = "") -> str:
    """What the result of a kernel is known by, from its inputs' keys and offsets. before: the key of what the buffer
    holds beside it."""
    return _short(f"{before}({spec.key} {list(inputs)})")


def held(constants: Mapping[str, Any]) -> Held | None:
    """Tells which packed constants of the model a session's memory has; None where it has nothing yet."""

    def there(spec: KernelSpec, b: Buffer, offset: int) -> bool:
        source = _of_model(b)
        return source is not None and made_key(spec, [(source, offset)]) in constants

    return there if constants else None


def _short(key: str) -> str:
    """A name of bounded length: what reads two others of a long chain would grow without end."""
    return key if len(key) < 400 else f"made {hashlib.sha256(key.encode()).hexdigest()}"


def root_of(alias: dict[Buffer, Buffer], b: Buffer) -> Buffer:
    """Whose memory a buffer has."""
    while b in alias:
        b = alias[b]
    return b
