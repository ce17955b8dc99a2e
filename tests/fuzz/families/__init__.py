"""Models as today's exporters write them, small and with random weights: `FAMILIES` maps a name to what builds it."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz.families.audio import AUDIO
from tests.fuzz.families.dense import DENSE
from tests.fuzz.families.language import LANGUAGE
from tests.fuzz.families.net import Net
from tests.fuzz.families.others import OTHERS
from tests.fuzz.families.vision import VISION

FAMILIES: dict[str, Callable[[], Net]] = {**VISION, **DENSE, **AUDIO, **LANGUAGE, **OTHERS}
