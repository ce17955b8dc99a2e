"""A plugin of pytest: two processes run the same tests between them, a file at a time, and end at the same time.

    pytest -p nnjit.devtools.taking --take=FOLDER --from=first     (and, beside it, --from=last)

Both have one list of files. One takes from its beginning, the other from its end, until they meet: what a process has
started for a file (a browser, a page) is there for the files beside it. A file is taken by who makes FOLDER/NUMBER.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

LONG = ("tests/conformance", "tests/browser")
"""First of the list: the rest comes in the order of pytest, short files are where the two meet."""


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


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    config = session.config
    if not config.getoption("take") or session.testsfailed or config.getoption("collectonly"):
        return None  # what could not be collected is told by pytest's own loop
    by_file: dict[str, list[pytest.Item]] = {}
    for item in session.items:
        by_file.setdefault(item.nodeid.split("::")[0], []).append(item)

    def run(item: pytest.Item, following: Any) -> None:
        config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)

    files = taken(
        in_order(list(by_file)), Path(config.getoption("take")), config.getoption("take_from") == "last"
    )
    run_files(by_file, files, run, session)
    return True
