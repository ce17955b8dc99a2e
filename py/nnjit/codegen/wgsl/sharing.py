"""What a run of statements shares: values used again get a name by `let`.

A straight-line run is walked twice by the same code: once to count uses, once to print. A value is shared until
a statement changes a register or a buffer that it reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from nnjit.codegen.expr import FACTS, Expr
from nnjit.codegen.wgsl.names import Names

ATOM, MUL, ADD, LOW = 3, 2, 1, 0
"""How tightly a text binds. WGSL lets few operators be mixed without parentheses: only + - * / go without."""

LONG = 96
"""A longer text gets a name of its own."""

Text = tuple[str, int]
Key = tuple[object, int]
"""What is shared: an expression or the terms of an index, and the lanes it is computed in."""


Changed = str | int
"""What a statement changes: a register, as `%name`, or an operand."""


@dataclass(slots=True)
class Shared:
    """One value of a run: how often it is used, its text, and what it reads that a statement may change."""

    reads: tuple[Changed, ...]
    uses: int
    text: Text = ("", ATOM)


@dataclass
class Sharing:
    """The lines printed so far and the values that they have named."""

    names: Names
    lines: list[str] = field(default_factory=list)
    root: Expr | None = None
    """The value of the statement being printed, which needs no name however long it is."""
    counting: bool = False
    _live: dict[Key, Shared] = field(default_factory=dict)
    _readers: dict[Changed, list[Key]] = field(default_factory=dict)
    """Of what may change, the values that read it."""
    _counted: list[Shared] = field(default_factory=list)
    _next: int = 0

    def twice(self, walk_run: Callable[[], None]) -> list[str]:
        """The lines that `walk_run` prints, which is called to count before it is called to print."""
        self.counting, self._live, self._readers, self._counted = True, {}, {}, []
        walk_run()
        self.counting, self._live, self._readers, self._next, self.lines = False, {}, {}, 0, []
        walk_run()
        return self.lines

    def forget(self, changed: Changed) -> None:
        """Values that read what the statement just printed has changed are computed anew."""
        for key in self._readers.pop(changed, ()):
            self._live.pop(key, None)

    def line(self, text: str) -> None:
        if not self.counting:
            self.lines.append(text)

    def _count(self, reads: tuple[Changed, ...]) -> Shared:
        """In the first walk: a value that is made next, which reads this of what statements change."""
        entry = Shared(reads, 1)
        self._counted.append(entry)
        return entry

    def _bind(self, text: str, wish: str) -> str:
        if self.counting:
            return ""
        name = self.names.numbered(wish)
        self.lines.append(f"let {name} = {text};")
        return name

    def named(self, value: Text) -> str:
        """A name for a value that is written more than once."""
        return value[0] if value[0].isidentifier() else self._bind(value[0], "t")

    def known(self, key: Key) -> Text | None:
        """The text of a value that is live, used once more; None where it has to be made."""
        entry = self._live.get(key)
        if entry is None:
            return None
        entry.uses += self.counting
        return entry.text

    def _entry(self) -> Shared:
        """What the first walk counted of the value that is made next: its parts, which are made before it is done,
        come after it in both walks."""
        entry = self._counted[self._next]
        self._next += 1
        return entry

    def _made(self, key: Key, entry: Shared, made: Text, wish: str) -> Text:
        """The text of a value that was not live, made now: bound to a name if it is used again, or is long."""
        if not self.counting and (entry.uses > 1 or (len(made[0]) > LONG and key[0] is not self.root)):
            simple = made[0].replace(".", "_").isidentifier()
            if not simple:
                made = self._bind(made[0], wish), ATOM
        entry.text = made
        self._live[key] = entry
        for changed in entry.reads:
            self._readers.setdefault(changed, []).append(key)
        return made


def within(text: str, tightness: int, wanted: int) -> str:
    """In parentheses unless it binds tightly enough for its place."""
    return text if tightness >= wanted else f"({text})"


def read_by(e: Expr) -> tuple[Changed, ...]:
    """The registers and operands that `e` reads."""
    return (*[n for n in e.axes() if n[0] == "%"], *_operands(e.facts))


@lru_cache(4096)
def _operands(facts: int) -> tuple[int, ...]:
    return tuple(n for n, bit in FACTS.items() if isinstance(n, int) and facts & bit)
