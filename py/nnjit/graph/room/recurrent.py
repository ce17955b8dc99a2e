"""Rules of LSTM, GRU and RNN with room: they are told how many time steps count."""

from __future__ import annotations

from ..ir import Node
from .extent import Axes, Extent, Growth
from .lengths import NoRoom
from .maker import Inputs, Maker, rule
from .sums import only


@rule("LSTM", "GRU", "RNN")
def recurrent(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """Time and batch may grow. What lies beyond n does not reach a state where `sequence_lens` says so; forwards no
    output but the last state looks there."""
    x = only(inputs)[0]
    time, batch = (1, 0) if node.attrs.get("layout", 0) else (0, 1)
    given = [*inputs, *[None] * (5 - len(inputs))]
    if 2 in x.axes or any(v is not None and v.axes for v in (*given[1:4], *given[7:8])):
        raise NoRoom("its features or weights grow")
    for v, axis in ((given[4], 0), *((v, 0 if time else 1) for v in given[5:7])):
        if v is not None and (v.dim(axis) != x.dim(batch) or set(v.axes) - {axis}):
            raise NoRoom("its states are of another length")
    last = any(v.name for v in node.outputs[1:])
    way = node.attrs.get("direction", "forward")
    rest = None
    if time in x.axes and given[4] is None and (last or way not in ("forward", b"forward")):
        count = w.number(x.dim(time), "i32", rank=1)
        given[4] = Extent(w.b("Expand", [count, w.b.const([x.shape[batch]])]))
    if given[4] is not None:
        rest = 0.0  # as onnxruntime has it for steps that do not count
    axes: Axes = {}
    for axis, growth in x.axes.items():
        to = axis if time else (0 if axis == time else 2)
        axes[to] = Growth(growth.length, rest if axis == time and len(x.axes) == 1 else None)
    made = w.again(node, [None if v is None else w.data(v) for v in given])
    states: Axes = {0 if time else 1: Growth(x.axes[batch].length)} if batch in x.axes else {}
    found = [
        w.checked(Extent(v.value, (states if i else axes) if v.tensor.name else {}))
        for i, v in enumerate(made)
    ]
    return found
