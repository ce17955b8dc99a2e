"""A plugin of pytest: two processes run the same tests between them, a file at a time, and end at the same time.

    pytest -p nnjit.devtools.taking --take=FOLDER --from=first     (and, beside it, --from=last)

Both have one list of files. One takes from its beginning, the other from its end, until they meet: what a process has
started for a file (a browser, a page) is there for the files beside it. A file is taken by who makes FOLDER/NUMBER.

What fails says beside its traceback what ran before it in its process, how busy the machine was, and how to run the
same again: which files are neighbours is another at each run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

LONG = ("tests/conformance", "tests/browser")
"""First of the list: the rest comes in the order of pytest, short files are where the two meet."""


BEFORE = 3
"""Files before a failing one that are named: what they left behind in a page may be what it failed of."""

ran = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--take", metavar="FOLDER", default="", help="run only files that nobody else has taken")
    parser.addoption("--from", dest="take_from", choices=["first", "last"], default="first")


def in_order(files: Sequence[str]) -> list[str]:
    """The list that files are taken from."""
    rank = {path: i for i, path in enumerate(LONG)}
    first = {
        file: next((rank[path] for path in LONG if file.startswith(path + "/")), len(LONG)) for file in files
    }
    return sorted(files, key=first.__getitem__)


def taken(files: Sequence[str], folder: Path, last: bool) -> Iterator[str]:
    """Files as they are taken, until there is one that somebody has."""
    numbers = range(len(files))
    for number in reversed(numbers) if last else numbers:
        try:
            (folder / str(number)).touch(exist_ok=False)
        except FileExistsError:
            return
        yield files[number]


def run_files(
    by_file: dict[str, list[Any]], files: Iterator[str], run: Callable[[Any, Any], object], session: Any
) -> None:
    """`run(item, the next one)` for each item of each file. After a file's last one comes the session, whose fixtures
    stay, while those of the file end."""
    for file in files:
        items = by_file[file]
        for item, following in zip(items, [*items[1:], session], strict=True):
            run(item, following)


def place(files: Sequence[str], last: bool, seconds: float) -> str:
    """Where and when a test failed, of which `files` are those of its process so far, in their order."""
    before = [*files[-1 - BEFORE :]]
    return (
        f"file {len(files)} of the process that takes from the {'last' if last else 'first'}; after {seconds:.1f} s; "
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n"
        f"these files again, in this order: python3 serve.py test {' '.join(before)}"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    files = item.config.stash.get(ran, [])
    if report.failed and files:
        last = item.config.getoption("take_from") == "last"
        report.sections.append(("where it failed", place(files, last, time.time() - call.start)))
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    config = session.config
    if not config.getoption("take") or session.testsfailed or config.getoption("collectonly"):
        return None  # what could not be collected is told by pytest's own loop
    files = config.stash[ran] = []
    by_file: dict[str, list[pytest.Item]] = {}
    for item in session.items:
        by_file.setdefault(item.nodeid.split("::")[0], []).append(item)

    def run(item: pytest.Item, following: Any) -> None:
        config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)

    folder, last = Path(config.getoption("take")), config.getoption("take_from") == "last"

    def begun() -> Iterator[str]:
        for file in taken(in_order(list(by_file)), folder, last):
            files.append(file)
            yield file

    run_files(by_file, begun(), run, session)
    return True
