"""Groups: where two lowerings of one graph differ, node by node, and steps that could be shared otherwise.

Takes two `Lowered` of the same Graph object; gives a Group for each place where their steps differ because a node has
another form (`differences`), and one for each step of which it is not clear whether sharing it pays (`sharing`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from itertools import takewhile
from typing import TypeAlias

from nnjit.codegen.schedule.steps import Schedule, describe
from nnjit.codegen.wasm.target import Target
from nnjit.graph.ir import Node
from nnjit.lower.forms import LOWERED, ORDER, share_question
from nnjit.lower.lowered import HostCall, Kernel, Lowered
from nnjit.runtime.common_values import Refused, Shared
from nnjit.runtime.shares import questionable, share

MOST_READERS = 8
"""Places after a reordered output among which all that see its order must lie."""


@dataclass(slots=True)
class Group:
    """Steps of the same nodes, both ways. answers: the forms of `mine`, by question; was: those of `base`.
    at: where the first of base lies among the run's kernels; steps: how many of these they are."""

    anchors: list[Node | None]
    base: list[Kernel]
    mine: list[Kernel]
    at: int
    steps: int
    answers: dict[str, str] = field(default_factory=dict)
    was: dict[str, str] = field(default_factory=dict)
    reordered: bool = False
    """One of the answers is about the order of an output."""

    @property
    def key(self) -> str:
        """Alike groups have one key."""
        text = repr([[_ident(s) for s in side] for side in (self.base, self.mine)])
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def repeated(self) -> float:
        """How many times as long as in an inference it takes in the lab."""
        return len(self.base) / self.steps

    @property
    def name(self) -> str:
        return "+".join(n.op for n in self.anchors if n is not None)

    @property
    def nodes(self) -> list[str]:
        return [n.name for n in self.anchors if n is not None]

    @property
    def text(self) -> str:
        """The forms, from and to."""
        asked = dict.fromkeys((self.was[q], self.answers[q]) for q in self.answers)
        return ", ".join(f"{mine} instead of {base}" for base, mine in asked)

    def schedules(self) -> list[str]:
        return [f"{s.spec.name}: {describe(s.schedule)}" for s in self.mine]


def differences(base: Lowered, mine: Lowered) -> list[Group]:
    """The places where two lowerings of a graph differ because a node has another form."""
    a, b = _by_anchor(base), _by_anchor(mine)
    groups: list[Group] = []
    places = _places(a, b)
    done = 0
    for at, (p, p2, q, q2) in enumerate(places):
        if at < done:
            continue
        group = _group(base, mine, a, b, (p, p2, q, q2))
        if group is None:
            continue
        if group.reordered:  # what reads another order is another kernel: both count
            for more in range(at, min(at + MOST_READERS, len(places))):
                grown = _group(base, mine, a, b, (p, places[more][1], q, places[more][3]))
                if grown is not None and _separate(grown, base, mine):
                    group, done = grown, more + 1
                    break
        groups.append(group)
    return groups


def _group(
    base: Lowered, mine: Lowered, a: Anchored, b: Anchored, at: tuple[int, int, int, int]
) -> Group | None:
    """Steps [p, p2) of a beside [q, q2) of b; None where they are the same, or have no other form of a node."""
    p, p2, q, q2 = at
    left = [s for _, steps in a[p:p2] for s in steps]
    right = [s for _, steps in b[q:q2] for s in steps]
    if [_ident(s) for s in left] == [_ident(s) for s in right]:
        return None
    anchors = list(dict.fromkeys([n for n, _ in (*a[p:p2], *b[q:q2])]))
    kernels = [[s for s in side if isinstance(s, Kernel)] for side in (left, right)]
    if len(kernels[0]) < len(left) or len(kernels[1]) < len(right):
        return None
    start = sum(isinstance(s, Kernel) for _, steps in a[:p] for s in steps)
    group = Group(anchors, kernels[0], kernels[1], start, len(kernels[0]))
    for n in (n for n in anchors if n is not None):
        for about in LOWERED:
            was, now = base.choices.get((n, about)), mine.choices.get((n, about))
            if was is not None and now is not None and was.form != now.form:
                group.answers[now.question] = now.form
                group.was[now.question] = was.form
                group.reordered |= about == ORDER
    return group if group.answers and group.base and group.mine else None


def _separate(group: Group, base: Lowered, mine: Lowered) -> bool:
    """Whether the rest of the model does not see which way is taken."""
    try:
        Shared((group.base, group.mine), base, mine, set(mine.graph.outputs))
    except Refused:
        return False
    return True


Anchored: TypeAlias = "list[tuple[Node | None, list[Kernel | HostCall]]]"


def _places(a: Anchored, b: Anchored) -> list[tuple[int, int, int, int]]:
    """[p, p2) of a beside [q, q2) of b. What only one side has, because there it is a kernel of its own, belongs to
    the kernel before it that computes it on the other side, or else to the one after it, which computes it again."""
    found: list[tuple[int, int, int, int]] = []
    matcher = SequenceMatcher(None, [n for n, _ in a], [n for n, _ in b], autojunk=False)
    before = False  # what comes next belongs to the one before it
    for tag, i, i2, j, j2 in matcher.get_opcodes():
        if tag == "equal":
            pairs = [(i + n, i + n + 1, j + n, j + n + 1) for n in range(i2 - i)]
            if before:
                p, _, q, _ = found.pop()
                pairs[0] = p, i + 1, q, j + 1
            found += pairs
            before = False
            continue
        if found and tag != "replace":
            last = found[-1]
            beside = (*a[last[0] : last[1]], *b[last[2] : last[3]])
            computed = {n for _, steps in beside for s in steps for n in s.nodes}
            theirs = sum(1 for _ in takewhile(computed.__contains__, (n for n, _ in (*a[i:i2], *b[j:j2]))))
            i, j = (i + theirs, j) if tag == "delete" else (i, j + theirs)
            found[-1] = last[0], i, last[2], j
        if i < i2 or j < j2:
            found.append((i, i2, j, j2))
            before = tag != "replace"
    return found


def _by_anchor(lowered: Lowered) -> Anchored:
    found: Anchored = []
    for s in lowered.steps:
        if s.once:
            continue
        anchor = s.anchor if isinstance(s, Kernel) else s.nodes[0]
        if found and found[-1][0] is anchor:
            found[-1][1].append(s)
        else:
            found.append((anchor, [s]))
    return found


def _ident(s: Kernel | HostCall) -> tuple[str, Schedule, str]:
    return (s.spec.key, s.schedule, s.threads) if isinstance(s, Kernel) else ("host", (), "")


REPEATED = 16
"""A short step is timed so often in a row, as the steps of a model follow each other; once alone, to call the threads
would be most of its time."""


def sharing(base: Lowered, target: Target) -> list[Group]:
    """For each step of which it is not clear whether sharing it pays: as it is, and the other way."""
    if not target.shared or target.threads < 2:
        return []
    groups = []
    at = -1
    for s in base.steps:
        if isinstance(s, HostCall) or s.once:
            continue
        at += 1
        if s.loop is not None or not questionable(s.spec, s.tiles, target.threads):
            continue
        asked = share_question(s.spec.key)
        now = share(s.spec, s.tiles, target.threads, base.shares.get(s.spec.key, ""))
        was, other = ("all", "alone") if now.parallel else ("alone", "all")
        mine = replace(s, threads=other)
        group = Group([s.anchor], [s] * REPEATED, [mine] * REPEATED, at, 1)
        group.answers[asked], group.was[asked] = other, was
        if _separate(group, base, base):  # not where another step only prepares what it reads
            groups.append(group)
    return groups
