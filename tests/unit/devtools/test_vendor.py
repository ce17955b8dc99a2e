"""Fetching web/vendor/: every source, resume, refusal by hash, and silence on the second start."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nnjit.devtools import transfer
from nnjit.devtools.lock import SetupError, read_lock
from nnjit.devtools.vendor import Vendor

DATA = random.Random(7).randbytes(700_000)
SHA = hashlib.sha256(DATA).hexdigest()
Make = Callable[..., Vendor]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: None)


@pytest.fixture
def make(tmp_path: Path, clients: Any) -> Make:
    """make(*sources, path=..., **more): a Vendor whose lock has that one file."""

    def build(
        *sources: dict[str, str], path: str = "a-1.0/file.bin", sha256: str = SHA, **more: Any
    ) -> Vendor:
        item = {"path": path, "sha256": sha256, "size": len(DATA), "group": "g", "sources": sources, **more}
        lock = tmp_path / "lock.json"
        lock.write_text(json.dumps({"pyodide": "1", "files": [item]}))
        return Vendor(read_lock(lock), tmp_path / "vendor", clients)

    return build


def part_of(v: Vendor) -> Path:
    part = v.path("a-1.0/file.bin.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    return part


def test_a_second_start_asks_nobody(make: Make, faulty: Any) -> None:
    v = make({"cdn": faulty.put("f", DATA)})
    assert v.ensure("g").fetched == ["a-1.0/file.bin"]
    asked = len(faulty.requests)
    again = v.ensure("g")
    assert (again.fetched, list(again.present)) == ([], ["a-1.0/file.bin"])
    assert len(faulty.requests) == asked
    assert v.path("a-1.0/file.bin").read_bytes() == DATA


def test_a_half_download_resumes_and_says_so(make: Make, faulty: Any, capsys: Any) -> None:
    v = make({"cdn": faulty.put("f", DATA)})
    part_of(v).write_bytes(DATA[:300_000])
    v.ensure("g")
    assert faulty.requests == [("/f", "bytes=300000-")]
    assert faulty.sent == len(DATA) - 300_000
    assert "resumes at byte 300,000 of 700,000" in capsys.readouterr().out
    assert not part_of(v).exists()


def test_a_connection_that_breaks_is_taken_up_where_it_broke(make: Make, faulty: Any, capsys: Any) -> None:
    faulty.faults = ["cut:250000", "cut:100000"]
    make({"cdn": faulty.put("f", DATA)}).ensure("g")
    assert [r for _, r in faulty.requests] == [None, "bytes=250000-", "bytes=350000-"]
    assert "connection broke after 250,000 bytes" in capsys.readouterr().out


def test_an_interrupted_run_leaves_a_part_that_the_next_run_uses(make: Make, faulty: Any) -> None:
    v = make({"cdn": faulty.put("f", DATA)})
    faulty.faults = ["cut:200000"] + ["status:503"] * 9
    with pytest.raises(SetupError, match="503"):
        v.ensure("g")
    assert part_of(v).stat().st_size == 200_000
    faulty.faults, faulty.sent = [], 0
    v.ensure("g")
    assert faulty.sent == 500_000


@pytest.mark.parametrize(
    ("fault", "reason"), [("whole", "does not resume"), ("status:416", "no bytes beyond")]
)
def test_a_server_that_cannot_resume_starts_over_and_says_so(
    make: Make, faulty: Any, capsys: Any, fault: str, reason: str
) -> None:
    v = make({"cdn": faulty.put("f", DATA)})
    part_of(v).write_bytes(DATA[:1000])
    faulty.faults = [fault]
    v.ensure("g")
    out = capsys.readouterr().out
    assert "starts over" in out and reason in out


def test_a_part_longer_than_the_file_starts_over(make: Make, faulty: Any, capsys: Any) -> None:
    v = make({"cdn": faulty.put("f", DATA)})
    part_of(v).write_bytes(DATA + b"more")
    v.ensure("g")
    assert "starts over" in capsys.readouterr().out


def test_a_part_of_other_bytes_is_noticed_and_fetched_anew(make: Make, faulty: Any, capsys: Any) -> None:
    v = make({"cdn": faulty.put("f", DATA)})
    part_of(v).write_bytes(b"\0" * 1000)
    v.ensure("g")
    assert "the resumed file does not match its sha256" in capsys.readouterr().out
    assert [r for _, r in faulty.requests] == ["bytes=1000-", None]


def test_wrong_bytes_are_refused_by_name_and_the_next_source_is_tried(
    make: Make, faulty: Any, capsys: Any
) -> None:
    bad = faulty.put("bad", b"x" * len(DATA))
    v = make({"cdn": bad}, {"cdn": faulty.put("good", DATA)})
    v.ensure("g")
    out = capsys.readouterr().out
    assert f"{bad}: refused: a-1.0/file.bin has sha256" in out and SHA in out
    assert v.path("a-1.0/file.bin").read_bytes() == DATA


def test_no_source_left_names_the_file_each_source_and_the_next_step(make: Make, faulty: Any) -> None:
    v = make({"cdn": faulty.put("bad", b"x" * len(DATA))}, {"pypi": "nothing==1.0"}, {"npm": "nothing@1.0"})
    with pytest.raises(SetupError) as error:
        v.ensure("g")
    text = str(error.value)
    assert "no source gave a-1.0/file.bin" in text and "refused" in text
    assert "PyPI nothing==1.0" in text and "No matching distribution" in text
    assert "npm nothing@1.0" in text and "E404" in text
    assert "by hand" in text
    assert not v.path("a-1.0/file.bin").exists() and not part_of(v).exists()


def test_a_size_other_than_the_lock_says_is_not_even_downloaded(make: Make, faulty: Any) -> None:
    with pytest.raises(SetupError, match="offers 5 bytes, the lock file says 700,000"):
        make({"cdn": faulty.put("f", b"short")}).ensure("g")


def test_a_damaged_file_in_place_is_refused_by_name(make: Make, faulty: Any, capsys: Any) -> None:
    v = make({"cdn": faulty.put("f", DATA)})
    v.ensure("g")
    v.path("a-1.0/file.bin").write_bytes(DATA[:-1] + b"!")
    v.ensure("g")
    assert f"refused: {v.path('a-1.0/file.bin')} does not match" in capsys.readouterr().out
    assert v.path("a-1.0/file.bin").read_bytes() == DATA


def test_a_host_that_does_not_answer_is_asked_once(
    tmp_path: Path, clients: Any, faulty: Any, capsys: Any
) -> None:
    dead = "http://127.0.0.1:9/"  # the discard port: refused at once
    good = faulty.put("f", DATA)
    files = [
        {
            "path": f"a-1.0/{i}",
            "sha256": SHA,
            "size": len(DATA),
            "group": "g",
            "sources": [{"cdn": f"{dead}{i}"}, {"cdn": good}],
        }
        for i in range(3)
    ]
    (tmp_path / "lock.json").write_text(json.dumps({"pyodide": "1", "files": files}))
    v = Vendor(read_lock(tmp_path / "lock.json"), tmp_path / "vendor", clients)
    assert len(v.ensure("g").fetched) == 3
    assert capsys.readouterr().out.count("Connection refused") == 1


def test_one_member_of_a_wheel_comes_by_ranges(make: Make, faulty: Any, clients: Any, wheel: Any) -> None:
    big = random.Random(1).randbytes(6_000_000)
    clients.urls["pack==1.0"] = faulty.put("pack-1.0-py3-none-any.whl", wheel({"a/big": big, "a/file": DATA}))
    v = make({"pypi": "pack==1.0", "file": "pack-1.0-py3-none-any.whl", "member": "a/file"})
    v.ensure("g")
    assert v.path("a-1.0/file.bin").read_bytes() == DATA
    assert faulty.sent < 3_000_000  # of 6.7 MB
    assert all(r is not None for _, r in faulty.requests)


def test_without_ranges_the_whole_wheel_is_taken(
    make: Make, faulty: Any, clients: Any, wheel: Any, capsys: Any
) -> None:
    clients.urls["pack==1.0"] = faulty.put("pack-1.0-py3-none-any.whl", wheel({"a/file": DATA}))
    faulty.faults = ["whole"]
    v = make({"pypi": "pack==1.0", "member": "a/file"})
    v.ensure("g")
    assert "takes the whole wheel" in capsys.readouterr().out
    assert v.path("a-1.0/file.bin").read_bytes() == DATA


def test_a_whole_wheel_from_pypi_resumes(make: Make, faulty: Any, clients: Any) -> None:
    clients.urls["pack==1.0"] = faulty.put("pack-1.0-py3-none-any.whl", DATA)
    v = make({"pypi": "pack==1.0", "file": "pack-1.0-py3-none-any.whl"})
    part_of(v).write_bytes(DATA[:1000])
    v.ensure("g")
    assert faulty.requests == [("/pack-1.0-py3-none-any.whl", "bytes=1000-")]


def test_pypi_offering_another_wheel_is_refused(make: Make, faulty: Any, clients: Any) -> None:
    clients.urls["pack==1.0"] = faulty.put("pack-1.0-cp311-none-any.whl", DATA)
    with pytest.raises(SetupError, match=r"offers pack-1\.0-cp311"):
        make({"pypi": "pack==1.0", "file": "pack-1.0-py3-none-any.whl"}).ensure("g")


def test_npm_packs_once_for_all_members(tmp_path: Path, clients: Any) -> None:
    clients.add_npm("@s/p@1.0", {"package/dist/a": DATA, "package/dist/b": DATA})
    source = [{"npm": "@s/p@1.0", "member": f"package/dist/{n}"} for n in "ab"]
    files = [
        {"path": f"p-1.0/{i}", "sha256": SHA, "size": len(DATA), "group": "g", "sources": [source[i]]}
        for i in range(2)
    ]
    (tmp_path / "lock.json").write_text(json.dumps({"pyodide": "1", "files": files}))
    assert len(Vendor(read_lock(tmp_path / "lock.json"), tmp_path / "v", clients).ensure("g").fetched) == 2
    assert clients.calls("npm") == 1


def test_a_member_that_is_not_there_is_named(make: Make, faulty: Any, clients: Any, wheel: Any) -> None:
    clients.add_npm("p@1.0", {"package/other": DATA})
    clients.urls["pack==1.0"] = faulty.put("pack-1.0-py3-none-any.whl", wheel({"other": DATA}))
    with pytest.raises(SetupError) as error:
        make({"npm": "p@1.0", "member": "package/a"}, {"pypi": "pack==1.0", "member": "a"}).ensure("g")
    assert "has no file package/a" in str(error.value)
    assert "has no member a" in str(error.value)


def test_an_optional_file_may_be_missing_and_is_not_asked_for_at_each_start(make: Make, faulty: Any) -> None:
    v = make({"cdn": faulty.url + "nothing"}, optional="only one place has it")
    assert v.ensure("g").missing == {"a-1.0/file.bin": "only one place has it"}
    asked = len(faulty.requests)
    assert asked and v.ensure("g").missing and len(faulty.requests) == asked
    faulty.put("nothing", DATA)
    assert v.ensure("g", ask_again=True).fetched
    assert not v.ensure("g").missing


def test_an_optional_file_is_asked_for_again_after_a_week(make: Make, faulty: Any) -> None:
    v = make({"cdn": faulty.url + "nothing"}, optional="rare")
    v.ensure("g")
    os.utime(v.path("a-1.0/file.bin.absent"), (0, 0))
    asked = len(faulty.requests)
    v.ensure("g")
    assert len(faulty.requests) > asked


def test_samples_may_be_missing_without_stopping_the_start(make: Make, faulty: Any) -> None:
    result = make({"cdn": faulty.url + "nothing"}).ensure("g", required=False)
    assert "HTTP 404" in result.missing["a-1.0/file.bin"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "../out"}, "not a plain relative path"),
        ({"path": "/etc/x"}, "not a plain relative path"),
        ({"path": "a//b"}, "not a plain relative path"),
        ({"sha256": "00"}, "not 64 hexadecimal digits"),
        ({"sources": []}, "has no source"),
        ({"sources": [{"pypi": "name"}]}, "does not pin a version"),
        ({"sources": [{"npm": "@scope/name"}]}, "does not pin a version"),
        ({"sources": [{"ftp": "x"}]}, "neither cdn, pypi nor npm"),
    ],
)
def test_a_lock_that_makes_no_sense_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    item = {"path": "a", "sha256": SHA, "size": 1, "group": "g", "sources": [{"cdn": "http://x/"}], **change}
    (tmp_path / "lock.json").write_text(json.dumps({"pyodide": "1", "files": [item]}))
    with pytest.raises(SetupError, match=message):
        read_lock(tmp_path / "lock.json")


def test_an_unknown_group_is_named(make: Make) -> None:
    with pytest.raises(SetupError, match="no group 'nope'; it has g"):
        make({"cdn": "http://127.0.0.1:9/"}).ensure("nope")


def test_a_long_download_tells_how_far_it_is(
    make: Make, faulty: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PROGRESS", 0.0)
    make({"cdn": faulty.put("f", DATA)}).ensure("g")
    assert "0.7 MB of 0.7 MB" in capsys.readouterr().out


def test_what_the_pages_samples_read_is_fetched_before_it_is_served() -> None:
    """`serve.py` fetches the groups runtime and samples."""
    root = Path(__file__).parents[3]
    listed = json.loads((root / "web" / "vendor.lock.json").read_text())["files"]
    groups = {item["path"]: item["group"] for item in listed}
    text = "".join(path.read_text() for path in sorted((root / "web" / "samples").glob("*.js")))
    folders = dict(re.findall(r"export const (\w+) = 'vendor/([^']+)'", text))
    read = [
        folders[name] + file for name, file in re.findall(r"\$\{(\w+)\}([\w.-]+)", text) if name in folders
    ]
    assert len(read) >= 7, read
    assert {path: groups.get(path) for path in read} == dict.fromkeys(read, "samples")
