"""All tests, in the order that wastes least of two cores: those on CPython in two processes at a time, then those in a
browser, which use all cores and are alone. Returns pytest's exit codes, 0 where all is well."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from .transfer import Say

UNIT = "tests/unit"
FIRST = ("tests/unit/codegen", "tests/unit/lower", "tests/unit/wasm", "tests/unit/wgsl")
"""About half of what runs without a browser; the other half is the rest of it."""
BESIDE = ("tests/fuzz",)
EARLIER = "a test that needs no browser failed; see the reports above the last one"


def shares() -> tuple[list[str], list[str], list[str]]:
    """Arguments of three runs: two that may go on at the same time, and the rest of all tests after them."""
    second = [UNIT, *BESIDE, *(f"--ignore={folder}" for folder in FIRST)]
    rest = [f"--ignore={folder}" for folder in (UNIT, *BESIDE)]
    return list(FIRST), second, rest


def run_all(pytest: Sequence[str], root: Path, variables: Mapping[str, str], say: Say) -> int:
    """`pytest` is the command that the arguments come after. Of two runs at once the second one's report follows the
    first one's. With one core they follow each other."""
    first, second, rest = shares()
    runs = []
    if (os.cpu_count() or 1) > 1:
        with tempfile.TemporaryFile("w+") as report:
            beside = subprocess.Popen(
                [*pytest, *second], cwd=root, env=variables, stdout=report, stderr=subprocess.STDOUT
            )
            try:
                runs.append(_run(pytest, first, root, variables))
                runs.append(beside.wait())
            finally:
                beside.kill()
            report.seek(0)
            say(report.read())
    else:
        runs += [_run(pytest, first, root, variables), _run(pytest, second, root, variables)]
    runs.append(_run(pytest, rest, root, variables))
    if any(runs[:2]):
        say(EARLIER)
    return next((code for code in runs if code), 0)


def _run(pytest: Sequence[str], arguments: Sequence[str], root: Path, variables: Mapping[str, str]) -> int:
    return subprocess.run([*pytest, *arguments], cwd=root, env=variables, check=False).returncode
