"""Cases known not to pass, each with the reason: read from known.txt, lines `kind/name: reason`.

A line is a statement that is checked: the test of such a case must fail, and its reason goes into
docs/operators.md.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("known.txt")


@cache
def reasons() -> dict[str, str]:
    out: dict[str, str] = {}
    for line in FILE.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            case, _, reason = line.partition(":")
            if not reason.strip():
                raise ValueError(f"known.txt: {line!r} has no reason")
            out[case.strip()] = reason.strip()
    return out
