"""How rules say for which operators they are: `rule = registering(RULES)`, then `@rule("Add", "Sub")` above one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def registering(rules: dict[str, T]) -> Callable[..., Callable[[T], T]]:
    """A decorator that takes operators' names and enters what it decorates under each."""

    def naming(*ops: str) -> Callable[[T], T]:
        def register(rule: T) -> T:
            rules.update(dict.fromkeys(ops, rule))
            return rule

        return register

    return naming
