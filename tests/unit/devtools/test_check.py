"""The static checks: which run, what is said of them, and in which order."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nnjit.devtools.check import CHECKS, run_checks

# Stands in for Python and Node.js: slow where it fails, so that later checks are through before it.
PROGRAM = """#!/bin/sh
echo "begin $*"
case "$*" in *mypy*) sleep 0.3; echo "it is wrong" >&2; exit 1;; esac
"""


@pytest.fixture
def env(tmp_path: Path) -> Any:
    program = tmp_path / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    return SimpleNamespace(python=program, node=lambda: program)


def test_what_fails_is_told_in_one_piece_and_in_order(tmp_path: Path, env: Any) -> None:
    said: list[str] = []
    assert run_checks(tmp_path, env, tmp_path, said.append, []) == ["mypy", "mypy-3.10"]
    outcomes = [line for line in said if not line.startswith("begin")]
    assert outcomes == [f"{name}: {'FAILED' if 'mypy' in name else 'ok'}" for name in CHECKS]
    failed = said[said.index("mypy: FAILED") - 1].splitlines()
    assert failed[0].startswith("begin -m mypy") and failed[1:] == ["it is wrong"]


def test_only_those_that_are_named_run(tmp_path: Path, env: Any) -> None:
    said: list[str] = []
    assert run_checks(tmp_path, env, tmp_path, said.append, ["tsc", "ruff"]) == []
    assert said == ["tsc: ok", "ruff: ok"]
