"""warming.parts: after it a first model finds every module imported that it needs; without it, it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCRIPT = """
import sys
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.frontend import FileSource, load
from nnjit.runtime.prepared import Options
from nnjit.runtime.session import CompilerSession
from nnjit.runtime.warming import parts
from tests.models import catalogue
if sys.argv[1] == "warm":
    assert sum(1 for _ in parts()) > 12
entry = catalogue.MODELS["mobilenet-v2"]
before = set(sys.modules)
for options in (Options(strict=True), Options(provider="webgpu", gpu=WgslTarget(), strict=True)):
    session = CompilerSession(load(FileSource(entry.path()), {}), options)
    session.prepare({n: v.shape for n, v in entry.feeds(1).items()}, {})
print(*sorted(m for m in set(sys.modules) - before if m.startswith("nnjit")))
"""


def imported(how: str) -> list[str]:
    """Modules of the compiler that a first model brings in, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'py'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_a_first_model_finds_everything_imported() -> None:
    assert imported("warm") == []


def test_it_would_not_otherwise() -> None:
    assert "nnjit.codegen.schedule.along" in imported("cold")
