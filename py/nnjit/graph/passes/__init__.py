"""Canonical passes, Graph → Graph, each with its before and after in the docstring."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ..ir import Graph
from .cleanup import dead_code

Pass: TypeAlias = "Callable[[Graph], Graph]"

PASSES: list[Pass] = [dead_code]
