"""`serve.py --records WHERE`: what each WHERE opens, and what the checkout ships."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnjit.devtools import cli
from nnjit.devtools.cli import ROOT
from nnjit.devtools.env import Environment
from nnjit.devtools.lock import SetupError
from nnjit.devtools.postgres import Cluster
from nnjit.devtools.records_open import FOLDER, SHIPPED, open_records, read_shipped
from nnjit.devtools.records_sqlite import SqliteDatabase
from nnjit.devtools.records_store import Store
from nnjit.tune.records import encode_lines
from tests.support.reports import DEVICE, network, record


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    return Environment(tmp_path / ".venv", print)


def test_off(tmp_path: Path, env: Environment) -> None:
    assert open_records(tmp_path, "off", env, print) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["", "elsewhere.sqlite3"])
def test_a_file(tmp_path: Path, env: Environment, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    api = open_records(tmp_path, where, env, print)
    assert api is not None and api.store.report(network(1), [record()]) == ["kept"]
    api.store.database.close()
    assert (tmp_path / (where or "kernels_cache/records.sqlite3")).is_file()


def test_shipped_records_are_read_and_left_alone(tmp_path: Path, env: Environment) -> None:
    said: list[str] = []
    (tmp_path / FOLDER).mkdir()
    shipped = tmp_path / FOLDER / SHIPPED
    text = "# of a fast machine\n" + encode_lines([record(4), record(5)]) + "{}\n" * 5
    shipped.write_text(text)
    api = open_records(tmp_path, "", env, said.append)
    assert api is not None and api.published.shipped[DEVICE] == [record(4), record(5)]
    assert len(said) == 4 and "2 more" in said[-1]
    api.store.report(network(1), [record(6)])
    api.store.database.close()
    assert shipped.read_text() == text


def test_what_cannot_be_opened_costs_the_reports(tmp_path: Path, env: Environment) -> None:
    said: list[str] = []
    (tmp_path / "file").write_text("")
    api = open_records(tmp_path, str(tmp_path / "file" / "r.sqlite3"), env, said.append)
    assert api is not None and any("refused until it opens" in line for line in said)


def test_postgres(tmp_path: Path, env: Environment, postgres_cluster: Cluster) -> None:
    said: list[str] = []
    api = open_records(tmp_path, postgres_cluster.url, env, said.append)
    assert api is not None and api.store.database.label in said[-1]
    assert api.store.counts()["classes"] >= 0
    api.store.database.close()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("mysql://x/y", "postgresql://USER@HOST/NAME"),
        (
            "postgresql://me:secret@127.0.0.1:9/none?connect_timeout=1",
            "--records postgresql://me@127.0.0.1:9/none: ",
        ),
    ],
)
def test_a_place_asked_for_by_name_must_answer(
    tmp_path: Path, env: Environment, where: str, message: str
) -> None:
    with pytest.raises(SetupError) as error:
        open_records(tmp_path, where, env, print)
    assert message in str(error.value) and "secret" not in str(error.value)


def test_the_checkout_ships_only_records() -> None:
    said: list[str] = []
    read_shipped(ROOT / FOLDER / SHIPPED, said.append)
    assert (ROOT / FOLDER / SHIPPED).is_file() and said == []


def test_the_best_records_can_be_exported_and_shipped(tmp_path: Path) -> None:
    where = tmp_path / "r.sqlite3"
    store = Store(SqliteDatabase(where, print))
    many = [record(6, 0.5, spec_number=i) for i in range(20)]
    store.report(network(1), many)
    store.database.close()
    out = tmp_path / SHIPPED
    assert cli.main(["records", "--records", str(where), "--export", str(out)]) == 0
    assert sorted(read_shipped(out, print), key=lambda r: r.key) == sorted(many, key=lambda r: r.key)
    assert cli.main(["records", "--records", "off"]) == 1
