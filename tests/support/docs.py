"""Examples in the docs: takes a file and a language, returns the code between its fences, to be run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def examples(file: str, language: str) -> list[str]:
    """The fenced blocks of `language` in a file of the checkout, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / file).read_text(), re.DOTALL | re.MULTILINE)


def everywhere(language: str) -> dict[tuple[str, int], str]:
    """{(file, number): code} of README.md and docs/."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    names = [path.relative_to(ROOT).as_posix() for path in files]
    return {(name, i): code for name in names for i, code in enumerate(examples(name, language))}
