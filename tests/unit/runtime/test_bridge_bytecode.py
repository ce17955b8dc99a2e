"""Bytecode from one visit to the next: what is taken, what is kept, and what is of no use."""

from __future__ import annotations

import importlib
import marshal
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from nnjit.runtime import bridge_bytecode

Visit = Callable[..., list[object]]


class Blob:
    """As JavaScript gives an ArrayBuffer."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def to_bytes(self) -> bytes:
        return self.data


@pytest.fixture
def visit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Visit:
    """visit(kept, served) -> the answers of a package's module and of one of the user's, after a new start."""
    (tmp_path / "package_of_ours").mkdir()
    (tmp_path / "package_of_ours/__init__.py").write_text("answer = 42\n")
    monkeypatch.setattr(bridge_bytecode, "_PACKAGES", (f"{tmp_path}/package_of_ours/",))
    monkeypatch.setattr(SourceFileLoader, "get_code", SourceFileLoader.get_code)  # put back afterwards
    monkeypatch.syspath_prepend(str(tmp_path))

    def start(kept: bytes | None, *served: bytes, users: str = "answer = 1\n") -> list[object]:
        for name, value in (("_served", {}), ("_own", {}), ("_counts", {"taken": 0, "compiled": 0})):
            monkeypatch.setattr(bridge_bytecode, name, value)
        (tmp_path / "module_of_theirs.py").write_text(users)
        names = ("package_of_ours", "module_of_theirs")
        for name in names:
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        bridge_bytecode.install(None if kept is None else Blob(kept), [Blob(blob) for blob in served])
        return [importlib.import_module(name).answer for name in names]

    return start


def test_a_module_of_the_users_is_compiled_from_its_source_each_time(visit: Visit) -> None:
    """Its path says nothing of what it holds: the next visit may write another there."""
    assert visit(None) == [42, 1]
    kept = marshal.dumps(bridge_bytecode._own)
    assert [path.rsplit("/", 2)[1] for path in bridge_bytecode._own] == ["package_of_ours"]
    assert visit(kept, users="answer = 22222\n") == [42, 22222]
    assert bridge_bytecode.counts() == {"taken": 1, "compiled": 1}


@pytest.mark.parametrize("damage", ["nothing", "cut", "noise", "no dict", "its modules"])
def test_damaged_bytecode_is_not_taken(damage: str, visit: Visit) -> None:
    """Else Python would not start, at this visit and at every later one."""
    visit(None)
    whole = {"": MAGIC_NUMBER, **bridge_bytecode._own}
    data = {
        "nothing": b"",
        "cut": marshal.dumps(whole)[:-9],
        "noise": bytes(range(256)),
        "no dict": marshal.dumps(42),
        "its modules": marshal.dumps({path: code[:4] for path, code in whole.items()}),
    }[damage]
    assert visit(data, data) == [42, 1]
    assert bridge_bytecode.counts() == {"taken": 0, "compiled": 2}
    kept = marshal.dumps(bridge_bytecode._own)
    assert visit(kept, data) == [42, 1] and bridge_bytecode.counts()["taken"] == 1


def test_a_damaged_served_module_is_taken_from_what_is_kept(visit: Visit) -> None:
    visit(None)
    own = dict(bridge_bytecode._own)
    served = {"": MAGIC_NUMBER, **dict.fromkeys(own, b"")}
    assert visit(marshal.dumps(own), marshal.dumps(served)) == [42, 1]
    assert bridge_bytecode.counts() == {"taken": 1, "compiled": 1}
