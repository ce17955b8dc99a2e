"""Models as today's exporters write them, small and with random weights: `FAMILIES` maps a name to what builds it."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz.families.net import Net
from tests.fuzz.families.vision import VISION

FAMILIES: dict[str, Callable[[], Net]] = {**VISION}
