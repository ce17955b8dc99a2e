"""The GPU bench part by part: what becomes of each, whatever becomes of another, and which records are kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.bench.gpu import all_parts
from tests.bench.gpu.all_parts import Part

STOPPED = {"results": {"models stopped": "gone"}}


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that copies a record to the folder it is given, and then waits for as long as it is told."""
    (tmp_path / "writer_part.py").write_text(
        "import pathlib, sys, time\n"
        "pathlib.Path(sys.argv[1], 'own.json').write_bytes(pathlib.Path(sys.argv[2]).read_bytes())\n"
        "time.sleep(float(sys.argv[3]))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "writer_part"


def test_each_part_ends_and_leaves_its_record(
    writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good.json").write_text(json.dumps({"results": {}}))
    (tmp_path / "bad.json").write_text(json.dumps(STOPPED))
    parts = (
        Part("missing", 30, "no_such_module", "", "{out}"),
        Part("told", 30, writer, "", f"{{out}} {tmp_path}/bad.json 0"),
        Part("fine", 30, writer, "", f"{{out}} {tmp_path}/good.json 0"),
    )
    monkeypatch.setattr(all_parts, "PARTS", parts)
    out = tmp_path / "out"
    said: list[str] = []
    packed = tmp_path / "all.tar.gz"
    code = all_parts.main(["--small", "--out", str(out), "--archive", str(packed)], said.append)
    index = json.loads(next(out.glob("gpu-*-all.json")).read_text())
    status = {p["name"]: p["status"] for p in index["parts"]}
    assert status["missing"].startswith("failed with")
    assert (status["told"], status["fine"], code) == ("models stopped: gone", "done", 1)
    assert "--parts missing,told" in said[-1]
    names = {path.name.split("-")[-1] for path in out.iterdir()}
    assert names == {"told.json", "fine.json", "all.json"}
    with tarfile.open(packed) as archive:
        assert {n.split("-")[-1] for n in archive.getnames()} == names | {f"{p.name}.log" for p in parts}


def test_a_part_is_ended_at_its_limit(writer: str, tmp_path: Path) -> None:
    """Whatever it waits for."""
    (tmp_path / "good.json").write_text("{}")
    part = Part("stuck", 30, writer, f"{{out}} {tmp_path}/good.json 600", "")
    status, seconds = all_parts.run_part(part, False, tmp_path, 0.5, tmp_path / "log")
    assert status == "stopped after 0 s" and seconds < 600


def test_what_a_part_was_writing_when_it_was_ended_stops_nothing(
    writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torn.json").write_text('{"results": {"mod')
    (tmp_path / "good.json").write_text('{"results": {}}')
    parts = [Part(name, 30, writer, f"{{out}} {tmp_path}/{name}.json 0", "") for name in ("torn", "good")]
    monkeypatch.setattr(all_parts, "PARTS", tuple(parts))
    out = tmp_path / "out"
    assert all_parts.main(["--out", str(out)], lambda text: None) == 1
    index = json.loads(next(out.glob("gpu-*-all.json")).read_text())
    assert [p["status"] for p in index["parts"]] == ["no record", "done"]
    (tmp_path / "log.jsonl").write_text('{"kind": "head"}\n{"kind": "tri')
    assert all_parts.whole(tmp_path / "log.jsonl")
    assert (tmp_path / "log.jsonl").read_text() == '{"kind": "head"}\n'


def test_a_part_ends_with_the_bench_and_its_record_is_kept(tmp_path: Path) -> None:
    """Though it is a group of its own, which nobody else would end."""
    (tmp_path / "stuck_part.py").write_text(
        "import os, pathlib, sys, time\n"
        "pathlib.Path(sys.argv[1], 'own.json').write_text('{\"results\": {}}')\n"
        "pathlib.Path(sys.argv[2], 'part.tmp').write_text(str(os.getpid()))\n"
        "os.rename(sys.argv[2] + '/part.tmp', sys.argv[2] + '/part.pid')\n"
        "time.sleep(600)\n"
    )
    script = (
        "from tests.bench.gpu import all_parts\n"
        f"all_parts.PARTS = (all_parts.Part('stuck', 500, 'stuck_part', '{{out}} {tmp_path}', ''),)\n"
        f"all_parts.main(['--out', {str(tmp_path / 'out')!r}])\n"
    )
    search = os.pathsep.join([*sys.path, str(tmp_path)])
    bench = subprocess.Popen(
        [sys.executable, "-c", script], cwd=all_parts.ROOT, env={**os.environ, "PYTHONPATH": search}
    )
    told = tmp_path / "part.pid"
    while not told.exists():
        assert bench.poll() is None
        time.sleep(0.05)
    bench.terminate()
    assert bench.wait() == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)
    assert [path.name.split("-")[-1] for path in (tmp_path / "out").iterdir()] == ["stuck.json"]


def test_no_part_begins_that_could_not_get_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_parts, "PARTS", (Part("long", 600, "no_such_module", "{out}", ""),))
    said: list[str] = []
    assert all_parts.main(["--minutes", "1", "--out", str(tmp_path)], said.append) == 1
    assert said == ["\nnot done: --parts long"]


def test_parts_are_chosen_by_name() -> None:
    assert [p.name for p in all_parts.wanted("first,models")] == ["models", "first"]
    assert len(all_parts.wanted("", "suite")) == len(all_parts.PARTS) - 1
    with pytest.raises(SystemExit, match="no part modells"):
        all_parts.wanted("modells")
