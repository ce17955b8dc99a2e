"""Python before its memory is kept for the next visit, and after it has come back (web/api/snapshot.worker.js).

Nothing of the page may be held at that moment: the bridge is imported and not connected.
"""

from __future__ import annotations

import gc
import importlib
import random
import sys

from . import bridge_bytecode, warming


def before() -> None:
    """Does what a compiler does while nobody waits, and leaves no garbage."""
    for _ in warming.parts():
        pass
    bridge_bytecode.leave()
    importlib.invalidate_caches()  # importlib.metadata's holds an open file
    gc.collect()


def back() -> None:
    """What must differ from one visit to the next."""
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
