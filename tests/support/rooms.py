"""A model whose inputs name their dims, at other lengths: takes a model's feeds and a symbol; gives feeds for each n.

`groups(dims)`: the axes that each symbol names; `longer(feeds, axes, by)`: feeds whose axes are longer by as
much. What is added repeats what is there, so that indices stay in range and masks stay masks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

Axes = dict[str, list[int]]


def groups(dims: dict[str, Any]) -> dict[str, Axes]:
    """By symbol: the inputs' axes named by it, or by a sum that it is part of ("past + sequence")."""
    found: dict[str, Axes] = {}
    names = {s for given in dims.values() for d in given if isinstance(d, str) for s in _words(d)}
    for name in sorted(names):
        axes = {
            feed: [i for i, d in enumerate(given) if isinstance(d, str) and name in _words(d)]
            for feed, given in dims.items()
        }
        found[name] = {feed: at for feed, at in axes.items() if at}
    return found


def _words(symbol: str) -> list[str]:
    return [w for w in re.split(r"[\s+]+", symbol) if w]


def longer(feeds: dict[str, Any], axes: Axes, by: int) -> dict[str, Any]:
    """Feeds with `by` more places along the axes: those from the start once more, or cut off."""
    found = dict(feeds)
    for name, along in axes.items():
        for axis in along:
            array = found[name]
            count = array.shape[axis]
            found[name] = np.take(array, np.arange(count + by) % max(count, 1), axis=axis)
    return found


def together(dims: dict[str, Any], symbols: Sequence[str]) -> Axes:
    """The axes of several symbols."""
    found: Axes = {}
    for symbol in symbols:
        for name, axes in groups(dims)[symbol].items():
            found[name] = sorted({*found.get(name, []), *axes})
    return found
