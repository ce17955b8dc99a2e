"""Name resolution while a graph is imported: which Value does a name stand for, here?

A Frame collects the nodes of one graph (the model's, or a body of If, Loop, Scan); a Scope maps names
to Values inside a frame. Bodies see outer scopes, and record what they take as captures; functions do not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..graph.ir import Node, Value


@dataclass
class Frame:
    """One graph in the making: its nodes, and the outer values that it reads, by their inner names."""

    nodes: list[Node] = field(default_factory=list)
    captures: dict[str, Value] = field(default_factory=dict)


class Scope:
    """The names of one graph, body or function; others are looked for in `outer`. `prefix` comes before the names of a
    function's nodes and values; `main`: it is the model's own graph, whose names stay."""

    def __init__(
        self, frame: Frame, outer: Scope | None = None, prefix: str = "", main: bool = False
    ) -> None:
        self.frame, self.outer, self.prefix, self.main = frame, outer, prefix, main
        self.values: dict[str, Value | None] = {}

    def find(self, name: str) -> Value | None:
        """The Value of a name; KeyError when no scope knows it, None when a function's caller left it out."""
        if name in self.values:
            return self.values[name]
        if self.outer is None:
            raise KeyError(name)
        value = self.outer.find(name)
        if value is not None and self.outer.frame is not self.frame:
            self.frame.captures[value.name] = value
        return value
