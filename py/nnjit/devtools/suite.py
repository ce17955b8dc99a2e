"""All tests, in the order that wastes least of two cores: two processes at a time, first those on CPython, then those
in a browser, which wait for it more than they compute. Returns pytest's exit codes, 0 where all is well."""

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
SHORTER = (
    "tests/device",
    "tests/conformance",
    "tests/browser/test_models.py",
    "tests/browser/test_page.py",
    "tests/browser/test_page_access.py",
    "tests/browser/test_page_beside.py",
    "tests/browser/test_page_inside.py",
    "tests/browser/test_page_parts.py",
    "tests/browser/test_page_samples.py",
    "tests/browser/test_wgsl.py",
    "tests/browser/test_wgsl_values.py",
)
"""Half of what runs in a browser: where little depends on threads of its own, or on how long something takes."""
EARLIER = "a test that needs no browser failed; see the reports above the last two"

Share = list[str]


def shares() -> tuple[tuple[Share, Share], tuple[Share, Share]]:
    """Arguments of four runs: those of a pair may go on at the same time, the second pair comes after the first."""
    unit = [UNIT, *BESIDE, *(f"--ignore={folder}" for folder in FIRST)]
    rest = [f"--ignore={path}" for path in (UNIT, *BESIDE, *SHORTER)]
    return (list(FIRST), unit), (rest, list(SHORTER))


def run_all(pytest: Sequence[str], root: Path, variables: Mapping[str, str], say: Say) -> int:
    """`pytest` is the command that the arguments come after. Of two runs at once the second one's report follows the
    first one's. With one core all follow each other."""
    both = _at_once if (os.cpu_count() or 1) > 1 else _in_turn
    without, within = (both(pytest, pair, root, variables, say) for pair in shares())
    if any(without):
        say(EARLIER)
    return next((code for code in (*without, *within) if code), 0)


def _at_once(
    pytest: Sequence[str], pair: tuple[Share, Share], root: Path, variables: Mapping[str, str], say: Say
) -> list[int]:
    first, second = pair
    with tempfile.TemporaryFile("w+") as report:
        beside = subprocess.Popen(
            [*pytest, *second], cwd=root, env=variables, stdout=report, stderr=subprocess.STDOUT
        )
        try:
            codes = [_run(pytest, first, root, variables), beside.wait()]
        finally:
            beside.kill()
        report.seek(0)
        say(report.read())
    return codes


def _in_turn(
    pytest: Sequence[str], pair: tuple[Share, Share], root: Path, variables: Mapping[str, str], _say: Say
) -> list[int]:
    return [_run(pytest, arguments, root, variables) for arguments in pair]


def _run(pytest: Sequence[str], arguments: Sequence[str], root: Path, variables: Mapping[str, str]) -> int:
    return subprocess.run([*pytest, *arguments], cwd=root, env=variables, check=False).returncode
