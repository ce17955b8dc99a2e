"""In-place reuse: an output takes over the buffer of an input that dies in the same step.

Safe where the kernel reads that input only at the very element it then writes: element-wise work, the
residual of a matrix product's epilogue, a row-wise softmax.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.rewriting import walk
from nnjit.lower.lowered import HostCall, Kernel
from nnjit.lower.tensors import Buffer
from nnjit.lower.turns import loops


def reuse(
    steps: Sequence[Kernel | HostCall], pinned: set[Buffer], extends: Mapping[Buffer, Buffer] | None = None
) -> dict[Buffer, Buffer]:
    """output buffer -> the input buffer whose memory it takes. pinned: buffers that neither give theirs nor take
    another's, except the pairs of `extends`."""
    pairs = extends or {}
    last: dict[Buffer, int] = {}
    first_write: dict[Buffer, int] = {}
    for i, s in enumerate(steps):
        for b in (*s.reads, *s.writes):
            last[b] = i
        for b in s.writes:
            first_write.setdefault(b, i)
    for begin, end in loops(list(steps)):
        for s in steps[begin : end + 1]:
            last |= {b: max(last[b], end) for b in (*s.reads, *s.writes)}
    alias: dict[Buffer, Buffer] = {}
    for i, s in enumerate(steps):
        if isinstance(s, HostCall) or len(s.writes) != 1 or s.loop is not None:
            continue
        out = s.writes[0]
        if (out in pinned and out not in pairs) or out in alias or out.constant or first_write[out] != i:
            continue
        for n, (b, offset) in enumerate(s.places):
            if s.spec.operands[n].role != "in" or b.constant or last[b] != i or b is out:
                continue
            if pairs.get(out) is not b if out in pairs else b in pinned:
                continue
            alone = [p for p, _ in s.places].count(b) == 1
            if alone and b.nbytes == out.nbytes and offset == _out_offset(s) and _same_elements(s, n):
                alias[out] = b
                break
    return alias


def _out_offset(s: Kernel) -> int:
    return next(at for (_, at), o in zip(s.places, s.spec.operands, strict=True) if o.role == "out")


def _same_elements(s: Kernel, operand: int) -> bool:
    """Whether every read of `operand` is at the index of the last stage's store."""
    spec = s.spec
    store = spec.stages[-1]
    if store.keep or SIZES[spec.operands[operand].dtype] != SIZES[spec.operands[store.out].dtype]:
        return False
    if sum(1 for st in spec.stages if not st.keep) != 1:
        return False
    early = next((i for i, st in enumerate(spec.stages) if st.terms is not None), len(spec.stages))
    for i, st in enumerate(spec.stages):
        # what a stage stores before the last one must lie there too, and nothing read the input after it
        if st.terms is not None and st.terms[1] != store.index:
            return False
        roots = [x for x in (st.body, st.result) if x is not None] if i > early else []
        if any(e.op == "load" and e.attr.operand == operand for x in roots for e in walk(x)):
            return False
    own = {a.name for a in store.axes}
    for st in spec.stages:
        for root, is_body in ((st.body, True), (st.result, False)):
            for e in walk(root) if root is not None else ():
                if e.op != "load" or e.attr.operand != operand:
                    continue
                if e.attr.guard or e.attr.index != store.index:
                    return False
                if is_body and not {a.name for a in st.reduce} <= own:
                    return False
    return not any(not isinstance(a, str) for a, _ in store.index.terms)
