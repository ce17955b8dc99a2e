"""What README.md and docs/ point at is there: pages and headings, files of the code, commands and options, records."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from nnjit.devtools.cli import COMMANDS
from tests.support.docs import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^()\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w./-]+\.(?:py|jsonl?|js|css|html|md|wgsl|d\.ts)(?![\w.])")
COMMAND = re.compile(r"(?<![\w/])serve\.py((?: +(?:--?)?[\w.=,'|/-]+)*)")
MODULE = re.compile(r"-m (tests(?:\.\w+)+)")
RUN = re.compile(r"\b(?:gpu|first|live|overhead|decode)-[\w-]+\.jsonl?")
MADE = {
    "spaces.json", "gpu-spaces.json", "tests/bench/results/llvm.json", "web/dist/manifest.json",
    "/records/v1/CLASS/HASH.jsonl",
}  # fmt: skip
"""Files and addresses that commands make."""


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@cache
def files() -> frozenset[str]:
    """Paths of the checkout, below the folders that hold what is written by hand."""
    folders = (ROOT / name for name in ("py", "web", "tests", "docs", "kernels_cache"))
    found = [p.relative_to(ROOT).as_posix() for folder in folders for p in folder.rglob("*") if p.is_file()]
    kept = (path for path in found if not path.startswith(("web/dist/", "web/vendor/")))
    return frozenset("/" + path for path in [*kept, *(p.name for p in ROOT.glob("*.*"))])


@cache
def options() -> str:
    """All of the code that takes options."""
    places = (
        ROOT / "py/nnjit/devtools",
        ROOT / "tests/bench",
        ROOT / "tests/conformance",
        ROOT / "tests/fuzz",
    )
    return "".join(p.read_text() for place in places for p in sorted(place.rglob("*.py")))


def commands(page: Path) -> Iterator[list[str]]:
    text = page.read_text()
    for code in [
        *FENCE.findall(text),
        *re.findall(r"^ {4}.*$", text, re.MULTILINE),
        *CODE.findall(prose(page)),
    ]:
        for found in COMMAND.finditer(code):
            yield found[1].split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        to = page.parent / name if name else page
        assert to.exists(), link
        assert not anchor or anchor in anchors(to), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_are_there(page: Path) -> None:
    missing = [
        name
        for code in CODE.findall(prose(page))
        for name in FILE.findall(code)
        if "/" in name
        and "://" not in code
        and name not in MADE
        and not any(path.endswith("/" + name.lstrip("/")) for path in files())
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    for words in commands(page):
        first = words[0] if words else "serve"
        assert first.startswith("-") or first in COMMANDS, words
        for option in (w.partition("=")[0] for w in words if w.startswith("--")):
            assert f'"{option}"' in options(), words
    for module in MODULE.findall(page.read_text()):
        place = ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_records_that_figures_come_from_are_kept(page: Path) -> None:
    kept = {p.name for p in (ROOT / "tests/bench/results").rglob("*.json*")}
    assert [name for name in RUN.findall(prose(page)) if name not in kept | MADE] == []
