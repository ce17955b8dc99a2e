"""Imports go one way: frontend -> graph; codegen -> graph; lower -> codegen and graph; tune -> codegen; runtime -> all;
devtools -> tune, for the kernel database, whose modules need no numpy.

Only runtime/bridge*.py may import the browser's modules.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "py" / "nnjit"

MAY_IMPORT = {
    "graph": set(),
    "frontend": {"graph"},
    "codegen": {"graph"},
    "lower": {"graph", "codegen"},
    "tune": {"graph", "codegen"},
    "runtime": {"graph", "frontend", "codegen", "lower", "tune"},
    "devtools": {"codegen", "tune"},
}
EVERYWHERE = {"errors"}
BROWSER = {"js", "pyodide", "pyodide_js"}


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute module) of every import in a file, those inside functions too."""
    package = ("nnjit", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *(node.module or "").split("."))).strip(".")
            if stem == "nnjit":
                for name in node.names:
                    yield node.lineno, f"nnjit.{name.name}"
            else:
                yield node.lineno, stem


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_package_has_a_rule() -> None:
    packages = {p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.rglob("*.py"))}
    assert packages <= set(MAY_IMPORT)


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_imports_go_one_way(part: str) -> None:
    allowed = {part, *MAY_IMPORT[part], *EVERYWHERE}
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} imports {module}"
        for path in FILES
        if path.relative_to(PACKAGE).parts[0] == part
        for line, module in imported(path)
        if module.startswith("nnjit.") and module.split(".")[1] not in allowed
    ]
    assert not wrong


def test_only_the_bridge_knows_the_browser() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} imports {module}"
        for path in FILES
        if not (path.parent.name == "runtime" and path.name.startswith("bridge"))
        for line, module in imported(path)
        if module.split(".")[0] in BROWSER
    ]
    assert not wrong
