"""The ranking: what honest networks agree on stands, whatever a minority reports."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nnjit.devtools.records_rank import (
    EPOCHS,
    FAILED,
    HIGH,
    LOW,
    PUBLISHED,
    QUORUM,
    Entry,
    Standing,
    Vote,
    choose,
    clipped,
    standing,
    upper_median,
    worst_first,
)

NOW = 100
RATIO = st.floats(0.3, 2.0)
LIE = st.one_of(st.floats(0, 1e9), st.sampled_from([0.0, LOW, HIGH, FAILED, 1e300]))


def votes(ratios: list[float], epoch: int = NOW, who: str = "honest") -> list[Vote]:
    return [Vote(epoch, f"{who}{i}", r) for i, r in enumerate(ratios)]


@given(st.lists(RATIO, min_size=2, max_size=12), st.data())
def test_a_minority_cannot_leave_the_honest_range(honest: list[float], data: st.DataObject) -> None:
    lies = data.draw(st.lists(LIE, max_size=len(honest) - 1))
    s = standing(votes(honest) + votes(lies, who="liar"), NOW)
    assert min(honest) <= s.score <= max(honest)


@given(st.lists(RATIO, min_size=QUORUM, max_size=9), st.integers(0, EPOCHS - 1), st.data())
def test_a_lone_liar_in_every_epoch_changes_nothing(
    honest: list[float], age: int, data: st.DataObject
) -> None:
    """One network is one vote an epoch; epochs in which nobody else reported do not count, new as they are."""
    lies = [Vote(e, "liar", data.draw(LIE)) for e in range(NOW - EPOCHS + 1, NOW + 1) if e != NOW - age]
    said = votes(honest, NOW - age)
    assert standing(said + lies, NOW).score == standing(said, NOW).score


@given(st.lists(LIE, min_size=1, max_size=EPOCHS))
def test_a_lone_liar_confirms_nothing(lies: list[float]) -> None:
    assert not standing([Vote(NOW - i, "liar", lie) for i, lie in enumerate(lies)], NOW).confirmed


@given(st.lists(RATIO, min_size=1, max_size=5), LIE)
def test_one_network_cannot_hide_a_find(honest: list[float], lie: float) -> None:
    """Not even an unconfirmed one: with the lie the standing is no worse than the worst honest report."""
    s = standing(votes(honest) + votes([lie], who="liar"), NOW)
    assert s.score <= max(honest)


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.01, 4)), min_size=1, max_size=9))
def test_upper_median(weighted: list[tuple[float, float]]) -> None:
    m = upper_median(weighted)
    total = sum(w for _, w in weighted)
    assert sum(w for v, w in weighted if v <= m) >= total / 2 * 0.999999
    assert sum(w for v, w in weighted if v >= m) >= total / 2 * 0.999999


def test_votes_lose_weight_and_go() -> None:
    old, new = votes([0.5] * 4, NOW - 3), votes([0.9] * 3, NOW, "other")
    assert standing(old + new, NOW).score == 0.9  # 4 votes at an eighth against 3 whole ones
    assert standing(votes([0.5] * 20, NOW - 1) + new, NOW).score == 0.5  # 10 against 3
    assert standing(votes([0.5] * 9, NOW - EPOCHS), NOW) == Standing(FAILED, 0, False)
    assert standing(votes([0.5] * 9, NOW + 1), NOW) == Standing(FAILED, 0, False)
    assert standing([], NOW) == Standing(FAILED, 0, False)


def test_clipped() -> None:
    assert [clipped(x) for x in (0, 0.5, 99, FAILED, 1e300)] == [LOW, 0.5, HIGH, FAILED, FAILED]


ENTRIES = st.lists(
    st.builds(Standing, st.sampled_from([0.3, 0.5, 0.8, 1.0, 1.2, FAILED]), st.integers(1, 9), st.booleans()),
    max_size=12,
).map(lambda many: [Entry(f"{i:x}", s) for i, s in enumerate(many)])


@given(ENTRIES, st.integers(0, 10**6))
def test_what_is_published(entries: list[Entry], day: int) -> None:
    out = choose(entries, day)
    assert len(out) <= PUBLISHED and len(set(out)) == len(out)
    assert all(e.standing.score <= 1.05 for e in out)
    worth = [e for e in entries if e.standing.score <= 1.05]
    confirmed = [e for e in worth if e.standing.confirmed]
    kinds = [e.standing.confirmed for e in out]
    assert kinds == sorted(kinds, reverse=True), "a challenger stands before a confirmed one"
    if confirmed:
        assert out[0].standing.score == min(e.standing.score for e in confirmed)
    if len(worth) > len(confirmed):
        assert not kinds[-1], "no place was left for a challenger"
    assert len(out) == min(PUBLISHED, len(worth))


@given(st.lists(LIE, min_size=6, max_size=6), st.integers(0, 10**6))
def test_claims_do_not_buy_a_challengers_place(claims: list[float], day: int) -> None:
    """Which challengers are published does not depend on what they claim, once it is worth anything."""

    def chosen(scores: list[float]) -> set[str]:
        return {
            e.id for e in choose([Entry(str(i), Standing(s, 1, False)) for i, s in enumerate(scores)], day)
        }

    assert chosen([min(clipped(c), 1.0) for c in claims]) == chosen([0.9] * 6)


def test_every_challenger_has_its_day() -> None:
    entries = [Entry(str(i), Standing(0.9, 1, False)) for i in range(8)]
    assert {e.id for day in range(40) for e in choose(entries, day)} == {e.id for e in entries}


@given(ENTRIES)
def test_the_unconfirmed_give_way_first(entries: list[Entry]) -> None:
    order = [e.standing.confirmed for e in worst_first(entries, 7)]
    assert order == sorted(order)
