"""Python before its memory is kept for the next visit, and after it has come back (web/api/snapshot.worker.js).

Nothing of the page may be held at that moment: the bridge is imported and not connected.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import random
import sys

from nnjit.codegen.wasm.target import Target

from . import bridge_bytecode, warming
from .compile import compile_plan
from .memory import SessionMemory


def before() -> str:
    """Does what a compiler does while nobody waits, and leaves no garbage. Gives the proof of its memory."""
    for _ in warming.parts():
        pass
    made = _proof()
    bridge_bytecode.leave()
    importlib.invalidate_caches()  # importlib.metadata's holds an open file
    gc.collect()
    return made


def proof() -> str:
    """The same, of a Python that has come back."""
    back()
    return _proof()


def _proof() -> str:
    """SHA-256 of a small model's Wasm: what compiles it byte for byte as the other did has its memory right."""
    graph = warming._words().bind(shapes={"words": warming.SHAPES["words"]})
    plan = compile_plan(graph, Target(threads=2, shared=True), SessionMemory())
    return hashlib.sha256(plan.module).hexdigest()


def back() -> None:
    """What must differ from one visit to the next."""
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
