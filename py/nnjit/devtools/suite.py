"""All tests, by two processes that share them (taking.py). Returns pytest's exit codes, 0 where all is well."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from .transfer import Say

PLUGIN = "nnjit.devtools.taking"


def run_all(pytest: Sequence[str], root: Path, variables: Mapping[str, str], say: Say) -> int:
    """`pytest` is the command that arguments come after. Of two processes the second one's report follows the first
    one's. With one core there is one process."""
    if (os.cpu_count() or 1) == 1:
        return subprocess.run([*pytest], cwd=root, env=variables, check=False).returncode
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as report:
        # as one word: pytest looks for its settings beside every word that is no option
        first, last = (
            [*pytest, "-p", PLUGIN, f"--take={folder}", f"--from={end}"] for end in ("first", "last")
        )
        beside = subprocess.Popen(last, cwd=root, env=variables, stdout=report, stderr=subprocess.STDOUT)
        try:
            codes = [subprocess.run(first, cwd=root, env=variables, check=False).returncode, beside.wait()]
        finally:
            beside.kill()
        report.seek(0)
        say(report.read())
    return next((code for code in codes if code), 0)
