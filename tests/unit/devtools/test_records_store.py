"""The kernel database on SQLite and on a real PostgreSQL: votes, ranks, limits, epochs, privacy, liars."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnjit.devtools.records_rank import EPOCH_SECONDS, EPOCHS
from nnjit.devtools.records_sql import Database
from nnjit.devtools.records_sqlite import SqliteDatabase
from nnjit.devtools.records_store import DIGITS, Limits, Store
from nnjit.tune.device_class import wasm_device
from nnjit.tune.records import COMPILER, Record, spec_key
from tests.support.reports import DEVICE, Clock, network, record, spec

SMALL = Limits(
    classes=3,
    specs_of_class=4,
    entries_of_spec=3,
    votes_of_epoch=5,
    entries=10,
    new_of_spec=2,
    new_of_class=6,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: Database, clock: Clock) -> Store:
    return Store(database, clock=clock)


def best(store: Store, device: str = DEVICE) -> list[Record]:
    return [r for digit in DIGITS for r, _ in store.best(device, digit)]


def tiles(store: Store) -> list[int]:
    """Which of the made-up schedules are published, best first."""
    return [r.schedule[0].factor for r in best(store)]  # type: ignore[union-attr]


def test_one_report_comes_back_whole(store: Store) -> None:
    sent = record(6, 0.5)
    assert store.report(network(1), [sent]) == ["kept"]
    assert best(store) == [sent]
    ((_, standing),) = store.best(DEVICE, sent.key[0])
    assert standing.score == 0.5 and standing.reporters == 1 and not standing.confirmed
    assert store.versions(DEVICE) == {sent.key[0]: 1}
    assert store.versions("wasm.other-0.other.none.1c.1t.x") == {}


def test_three_networks_confirm(store: Store) -> None:
    for i in range(3):
        store.report(network(i), [record(6, 0.5 + i / 10), record(4, 0.9)])
    assert tiles(store) == [6, 4]
    assert [s.confirmed for _, s in store.best(DEVICE, record().key[0])] == [True, True]
    assert best(store)[0].ratio == 0.6, "the times shown are those of the vote nearest to the score"


def test_a_network_has_one_vote(store: Store) -> None:
    for ratio in (0.9, 0.8, 0.5):
        store.report(network(1), [record(6, ratio)])
    assert best(store)[0].ratio == 0.5
    assert store.counts()["votes"] == 1


def test_the_confirmed_stand_before_any_claim(store: Store) -> None:
    for i in range(3):
        store.report(network(i), [record(6, 0.8)])
    store.report(network(9), [record(7, 0.1), record(8, 0.1)])
    assert tiles(store)[0] == 6


def test_nothing_slower_than_the_default_is_kept(store: Store) -> None:
    outcomes = store.report(network(1), [record(3, 1.3), record(4, verdict="trap"), record(5, 1.0)])
    assert outcomes == ["slow", "failed", "kept"]
    assert tiles(store) == [5], "that the default is best is worth knowing"


def test_what_fails_elsewhere_goes(store: Store) -> None:
    store.report(network(1), [record(6, 0.5)])
    assert store.report(network(2), [record(6, verdict="wrong")]) == ["kept"]
    assert tiles(store) == [6], "one voice against one hides nothing"
    store.report(network(3), [record(6, verdict="trap")])
    assert tiles(store) == []


def test_another_compilers_records_are_not_mixed_in(store: Store) -> None:
    assert store.report(network(1), [replace(record(), compiler=COMPILER + 1)]) == ["version"]


def test_epochs_forget(store: Store, clock: Clock) -> None:
    for i in range(3):
        store.report(network(i), [record(6, 0.5)])
    salt = store.database.query("SELECT salt FROM salts")
    clock.now += 2 * EPOCH_SECONDS
    store.report(network(1), [record(7, 0.9)])
    assert tiles(store) == [6, 7]
    after = store.database.query("SELECT salt FROM salts")
    assert len(after) == 1 and after != salt, "the old salt is gone: old votes name nobody any more"
    clock.now += EPOCHS * EPOCH_SECONDS
    store.report(network(1), [record(8, 0.9)])
    assert tiles(store) == [8]
    assert store.counts() == {"classes": 1, "specs": 1, "entries": 1, "votes": 1}


def test_no_address_is_stored(store: Store) -> None:
    store.report("203.0.113.0/24", [record()])
    tables = ["specs", "classes", "shards", "class_specs", "entries", "votes"]
    dump = repr([store.database.query(f"SELECT * FROM {t}") for t in tables])
    assert "203.0" not in dump and "113" not in dump.replace(record().key, "")
    reporter = store.database.query("SELECT reporter FROM votes")[0][0]
    assert len(reporter) == 16 and int(reporter, 16) >= 0


def test_limits_of_one_spec(database: Database, clock: Clock) -> None:
    store = Store(database, SMALL, clock=clock)
    assert store.report(network(1), [record(t, 0.5) for t in (1, 2, 3)]) == ["kept", "kept", "quota"]
    assert store.report(network(2), [record(t, 0.9) for t in (3, 4)]) == ["kept", "kept"]
    assert store.counts()["entries"] == 3, "the worst gave way"
    for t in (10, 11):
        for i in range(3):
            assert store.report(network(10 * t + i), [record(t, 0.7)]) == ["kept"]
    assert tiles(store)[:2] == [10, 11] or tiles(store)[:2] == [11, 10]
    for i in range(6):
        store.report(network(300 + i), [record(50 + i, 0.0626)])
    assert set(tiles(store)[:2]) == {10, 11}, "the confirmed do not give way to claims"
    for i in range(3):
        store.report(network(400 + i), [record(55, 0.8)])
    assert len(tiles(store)) == 3 and store.counts()["entries"] == 3
    assert store.report(network(500), [record(60, 0.0626)]) == ["full"], "all that is there is confirmed"


def test_limits_of_votes(database: Database, clock: Clock) -> None:
    store = Store(database, SMALL, clock=clock)
    for i in range(9):
        clock.now += 1
        store.report(network(i), [record(6, 0.5)])
    assert store.counts()["votes"] == SMALL.votes_of_epoch


def test_limits_of_specs_and_classes(database: Database, clock: Clock) -> None:
    store = Store(database, SMALL, clock=clock)
    for i in range(7):
        clock.now += 1
        store.report(network(i), [record(6, 0.5, spec_number=i)])
    assert store.counts()["specs"] == SMALL.specs_of_class
    assert {r.spec for r in best(store)} == {spec(i) for i in (3, 4, 5, 6)}, "those reported last are there"
    for cores in (4, 8, 16, 32):
        clock.now += 1
        device = wasm_device("v8", 156, "arm", "fused", cores, 2).name
        store.report(network(9), [record(6, 0.5, device=device)])
    counts = store.counts()
    assert counts["classes"] == SMALL.classes and counts["specs"] == 1
    assert counts["entries"] == counts["votes"] == 3


def test_limits_of_everything_and_of_one_network(database: Database, clock: Clock) -> None:
    roomy = replace(SMALL, classes=99, specs_of_class=99)
    store = Store(database, roomy, clock=clock)
    outcomes = store.report(network(1), [record(6, 0.5, spec_number=i) for i in range(8)])
    assert outcomes == ["kept"] * 6 + ["quota"] * 2
    for i in range(20):
        store.report(network(10 + i), [record(6, 0.5, spec_number=10 + i)])
        assert store.counts()["entries"] <= roomy.entries
    assert spec(29) in {r.spec for r in best(store)}


def test_what_others_wrote_into_the_tables_is_left_out(store: Store) -> None:
    store.report(network(1), [record(6, 0.5), record(7, 0.6)])
    store.database.query("UPDATE entries SET schedule = ? WHERE score = 0.5", '[{"step":"Evil"}]')
    assert tiles(store) == [7]
    store.database.query("UPDATE specs SET text = ?", "made for mallory")
    assert tiles(store) == []


def test_two_stores_share_one_database(database: Database, clock: Clock, tmp_path: Path) -> None:
    """Two servers: what one is told the other publishes, and both know a network by the same name."""
    label = database.label
    again: Database = (
        SqliteDatabase(Path(label), print) if "sqlite" in label else type(database)(database.url)  # type: ignore[attr-defined,call-arg]
    )
    first, second = Store(database, clock=clock), Store(again, clock=clock)
    for s in (first, second, first):
        s.report(network(1), [record(6, 0.5)])
    assert best(first) == best(second) == [record(6, 0.5)]
    assert first.counts()["votes"] == 1
    again.close()


# ---- liars ----

TRUTH = {1: 1.4, 2: 0.95, 3: 0.7, 4: 0.6, 5: 1.1, 6: 3.0}
"""What each schedule is worth; 4 is the best."""


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), honest=st.integers(3, 7), share=st.floats(0, 0.99))
def test_liars(tmp_path_factory: pytest.TempPathFactory, seed: int, honest: int, share: float) -> None:
    """Honest networks try what is published and tell the truth give or take a tenth; fewer liars say anything.

    After some rounds the first place of the spec is a schedule within the noise of the best the honest know.
    """
    rng = random.Random(seed)
    clock = Clock()
    folder = tmp_path_factory.mktemp("liars")
    store = Store(SqliteDatabase(folder / "r.sqlite3", print), clock=clock)
    liars = int(share * honest)
    lies = [0.0626, 0.3, 0.99, 1.0, 5.0]
    for _ in range(4):
        turns = [("liar", i) for i in range(liars)] + [("honest", i) for i in range(honest)]
        rng.shuffle(turns)
        for kind, i in turns:
            clock.now += 60
            if kind == "liar":
                verdict = rng.choice(["timed", "timed", "timed", "wrong"])
                many = [record(t, rng.choice(lies), verdict=verdict) for t in rng.choices(range(1, 40), k=6)]
                store.report(network(1000 + i), many)
            else:
                tried = {*tiles(store), 2, 3, 4}
                said = [record(t, TRUTH.get(t, 2.0) * rng.uniform(0.95, 1.05)) for t in sorted(tried)]
                store.report(network(i), said)
    first = tiles(store)[0]
    assert TRUTH.get(first, 9.0) <= 0.7, f"schedule {first} came first with {liars} liars of {honest + liars}"
    store.database.close()


def test_spec_keys_spread_over_shards(store: Store) -> None:
    store.report(network(1), [record(6, 0.5, spec_number=i) for i in range(64)])
    shards = store.versions(DEVICE)
    assert set(shards) == {spec_key(spec(i))[0] for i in range(64)} and len(shards) > 8
    assert {r.spec for r in best(store)} == {spec(i) for i in range(64)}
