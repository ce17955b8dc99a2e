"""The static checks: ruff, its formatter, mypy, and tsc over the JavaScript; returns which failed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .env import Environment
from .lock import Entry
from .transfer import Say

CHECKS = ("ruff", "format", "mypy", "mypy-3.10", "tsc", "tsc-tests")


def run_checks(root: Path, env: Environment, typescript: Path, say: Say, only: list[str]) -> list[str]:
    """Run the named checks, all if none is named; those that failed. `typescript` is the unpacked package.

    As many at a time as there are cores. What each says comes as one piece, in the order of the names.
    """
    python = str(env.python)
    tsc = [str(env.node()), str(typescript / "lib" / "tsc.js")]
    mypy = [python, "-m", "mypy", "--no-error-summary"]
    commands = {
        "ruff": [python, "-m", "ruff", "check", "."],
        "format": [python, "-m", "ruff", "format", "--check", "."],
        "mypy": mypy,
        # The oldest Python it runs on: syntax and names of the library that came later. NumPy's own types are for
        # newer ones and give Any there.
        "mypy-3.10": [*mypy, "--python-version", "3.10", "--disable-error-code", "no-any-return"],
        "tsc": [*tsc, "--project", "web"],
        "tsc-tests": [*tsc, "--project", "tests"],
    }

    def run(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            commands[name], cwd=root, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    names = only or list(CHECKS)
    failed = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as cores:
        for name, done in zip(names, cores.map(run, names), strict=True):
            if done.returncode:
                failed.append(name)
                say(done.stdout.rstrip())
            say(f"{name}: {'FAILED' if done.returncode else 'ok'}")
    return failed


def unpack_typescript(entry: Entry, vendor: Path, into: Path) -> Path:
    """The TypeScript package of the vendored tarball, unpacked once per content."""
    folder = into / f"typescript-{entry.sha256[:12]}"
    if (folder / "lib" / "tsc.js").is_file():
        return folder
    temporary = folder.with_name(folder.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    with tarfile.open(vendor / entry.path) as archive:
        for member in archive:
            parts = Path(member.name).parts[1:]  # npm puts everything below package/
            if member.isfile() and parts[:1] in {("lib",), ("package.json",)} and ".." not in parts:
                source = archive.extractfile(member)
                assert source is not None
                target = temporary.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read())
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
    return folder
