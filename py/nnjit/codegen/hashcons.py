"""Hash consing: equal immutable values are one object, so that `is` compares them and their hash is their address.

`TABLE` holds every value by the tuple of its parts. Parts are made before what they are parts of, so the table's order
is one in which parts come first; `sweep` walks it backwards and drops what nothing but the table refers to.
"""

from __future__ import annotations

from sys import getrefcount
from typing import Any

TABLE: dict[tuple[Any, ...], Any] = {}
"""Parts -> the value. Keys of different classes differ in length."""

FIRST_SWEEP = 1 << 16
"""Values in the table before unused ones are looked for."""
_limit = FIRST_SWEEP


def remember(key: tuple[Any, ...], value: Any) -> None:
    """Enters a value that has just been made; every now and then drops those that are no longer used."""
    TABLE[key] = value
    if len(TABLE) > _limit:
        sweep()


def sweep() -> int:
    """Forgets values that only the table refers to; how many. The next one comes when the table has doubled."""
    global _limit
    before = len(TABLE)
    unused = _references({0: object()})
    keys = list(TABLE)
    while keys:
        key = keys.pop()  # not iterated over: a key refers to the parts, and would keep them
        if getrefcount(TABLE[key]) <= unused:
            del TABLE[key]
    _limit = max(FIRST_SWEEP, 2 * len(TABLE))
    return before - len(TABLE)


def _references(table: dict[int, object]) -> int:
    """What `getrefcount` says of a value that only a dictionary refers to: 2, the call's own included."""
    return getrefcount(table[0])
