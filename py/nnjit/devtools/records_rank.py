"""From reports to a rank: takes the votes on a schedule, gives its standing, and picks what is published.

A vote is one network's ratio to the default's time in one epoch. Ratios are compared, never times, so a fast
machine counts no more than a slow one. docs/records.md says what a liar can and cannot do.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

QUORUM = 3
"""Networks that must report within one epoch before the epoch counts."""
EPOCHS = 6
"""How many epochs back votes count at all; each weighs half of the one after it."""
EPOCH_SECONDS = 30 * 24 * 3600
FAILED = 1e6
"""The ratio of a candidate that gave wrong numbers, trapped or hung: worse than any time."""
LOW, HIGH = 1 / 16, 16.0
"""Ratios are brought into this range: a claim of 1,000x is worth no more than one of 16x."""
WORTH = 1.05
"""The default's own schedule has ratio 1: it is published where nothing beats it. What is slower is not."""
PUBLISHED = 3
"""Schedules published for one spec, of which at least one is a challenger if there is any."""


@dataclass(frozen=True, slots=True)
class Vote:
    """What a network (`reporter`, an HMAC of it) found in an epoch of 30 days: its time over the default's."""

    epoch: int
    reporter: str
    ratio: float


@dataclass(frozen=True, slots=True)
class Standing:
    """`score`: the ratio that the votes agree on. `reporters`: the most networks of one epoch."""

    score: float
    reporters: int
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """What `choose` looks at; `id` is any text that names the schedule."""

    id: str
    standing: Standing


def clipped(ratio: float) -> float:
    return FAILED if ratio >= FAILED else min(max(ratio, LOW), HIGH)


def standing(votes: Iterable[Vote], now: int, quorum: int = QUORUM) -> Standing:
    """The standing in epoch `now`; one vote a reporter and epoch is the caller's to see to.

    Confirmed: the weighted upper median over epochs that reached the quorum; so a lone liar, who is one
    network in each epoch, has no weight, and fewer liars than honest networks cannot leave the honest range.
    Unconfirmed: the lower median, so that one network can neither hide another's find nor make it count.
    """
    recent = [v for v in votes if now - EPOCHS < v.epoch <= now]
    counts = Counter(v.epoch for v in recent)
    counted = [v for v in recent if counts[v.epoch] >= quorum]
    most = max(counts.values(), default=0)
    if counted:
        weighted = [(clipped(v.ratio), 0.5 ** (now - v.epoch)) for v in counted]
        return Standing(upper_median(weighted), most, True)
    ordered = sorted(clipped(v.ratio) for v in recent)
    return Standing(ordered[(len(ordered) - 1) // 2] if ordered else FAILED, most, False)


def upper_median(weighted: Sequence[tuple[float, float]]) -> float:
    """The smallest value with more than half of the weight at or below it."""
    total, below = sum(w for _, w in weighted), 0.0
    for value, weight in sorted(weighted):
        below += weight
        if below > total / 2 * (1 + 1e-12):
            return value
    return max(value for value, _ in weighted)


def choose(entries: Iterable[Entry], day: int, limit: int = PUBLISHED) -> list[Entry]:
    """What is published for one spec, best first: the confirmed by score, then challengers.

    A challenger's claim buys it nothing: those with most networks come first, and among equals the day
    decides, so that each is tried by somebody in time. Inside its place the order is by score.
    """
    worth = [e for e in entries if e.standing.score <= WORTH]
    confirmed = sorted((e for e in worth if e.standing.confirmed), key=lambda e: (e.standing.score, e.id))
    rest = sorted(
        (e for e in worth if not e.standing.confirmed),
        key=lambda e: (-e.standing.reporters, _lot(day, e.id)),
    )
    kept = confirmed[: limit - min(1, len(rest))]
    challengers = rest[: limit - len(kept)]
    return kept + sorted(challengers, key=lambda e: (e.standing.score, e.id))


def worst_first(entries: Iterable[Entry], day: int) -> list[Entry]:
    """The order in which entries give way to a new one: unconfirmed before confirmed, few networks before many.

    Of unconfirmed ones the day decides again: a claim buys no longer stay either.
    """
    return sorted(
        entries,
        key=lambda e: (
            e.standing.confirmed,
            e.standing.reporters,
            -e.standing.score if e.standing.confirmed else 0,
            _lot(day, e.id),
        ),
    )


def _lot(day: int, name: str) -> bytes:
    return hashlib.sha256(f"{day} {name}".encode()).digest()
