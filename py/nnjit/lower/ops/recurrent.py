"""LSTM, GRU and RNN: one product for the inputs of all time steps, then a few small kernels a step.

The states of all steps are kept in a buffer [time + 1, batch, hidden]. The kernels of the first step are
the body of a loop of the plan: each turn does them one step further.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nnjit.codegen.expr import Expr, Index, acc, cast, compare, const, op, select
from nnjit.codegen.spec import Axis
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.ops.compose import compute, constant, fill, layout_of, output, part, shape_of, temporary
from nnjit.lower.ops.linear import accumulate, product
from nnjit.lower.ops.pointwise import like, text
from nnjit.lower.ops.recurrent_functions import Activation, activations
from nnjit.lower.registry import Computation, Unsupported, composite
from nnjit.lower.tensors import Buffer
from nnjit.lower.turns import repeat

if TYPE_CHECKING:
    from nnjit.lower.build import Build

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ROW, COLUMN = Index.of("b"), Index.of("h")


@dataclass(frozen=True)
class Cell:
    """One direction. `inputs` holds X W' + biases of every step, `states` and (LSTM) `memory` one more."""

    build: Build
    node: Node
    direction: int
    backward: bool
    functions: list[Activation]
    inputs: Value  # [time, batch, gates * hidden]
    states: Value  # [time + 1, batch, hidden]
    memory: Value | None
    clock: Value  # [time, 1, 1]: the numbers of the steps
    lengths: Value | None

    @property
    def hidden(self) -> int:
        return shape_of(self.states)[2]

    @property
    def dtype(self) -> str:
        return self.states.dtype

    def at(self, value: Value, number: int) -> Value:
        """[batch, ...] of a value over time; a backward cell counts inputs and clock from the end."""
        last = self.backward and value is not self.states and value is not self.memory
        one = layout_of(self.build, value).sliced(
            0, shape_of(value)[0] - 1 - number if last else number, 1, 1
        )
        return part(self.build, value, one.permuted([1, 2]))

    def now(self, ctx: Context, value: Value) -> Expr:
        """Element (b, h) of a state before the first step."""
        return ctx.read(self.at(value, 0), [ROW, COLUMN])

    def gate(self, ctx: Context, sums: Value, number: int, add: Expr | None = None) -> Expr:
        """Element (b, h) of what enters the activation of gate `number`, `add` with it: clipped."""
        x = ctx.read(sums, [ROW, COLUMN + number * self.hidden])
        return self.clipped(x if add is None else op("add", x, add))

    def clipped(self, x: Expr) -> Expr:
        bound = self.node.attrs.get("clip", 0.0)
        return op("max", op("min", x, like(x, bound)), like(x, -bound)) if bound else x

    def bias(self, ctx: Context, number: int) -> Expr:
        """Element h of the recurrent bias of gate `number`."""
        b = self.node.input(3)
        if b is None:
            return const(0, self.dtype)
        at = COLUMN + (GATES[self.node.op] + number) * self.hidden
        return cast(ctx.read(b, [Index(self.direction), at]), self.dtype)

    def peephole(self, ctx: Context, number: int, state: Expr) -> Expr | None:
        """P[number] * state, which enters a gate of an LSTM with peepholes too (in the order i, o, f)."""
        p = self.node.input(7)
        if p is None:
            return None
        weight = ctx.read(p, [Index(self.direction), COLUMN + number * self.hidden])
        return op("mul", cast(weight, self.dtype), state)

    def elementwise(self, into: Value, name: str, element: Callable[[Context], Expr]) -> None:
        """A kernel over (batch, hidden)."""
        batch, hidden = shape_of(into)

        def rule(ctx: Context) -> Computation:
            return Computation([Axis("b", batch), Axis("h", hidden)], [ROW, COLUMN], element(ctx), name=name)

        compute(self.build, self.node, into, rule)

    def store(self, value: Value, name: str, element: Callable[[Context], Expr]) -> None:
        """The kernel of a state after the first step; a sequence that is over keeps its state."""

        def masked(ctx: Context) -> Expr:
            new = element(ctx)
            if self.lengths is None:
                return new
            length = cast(ctx.read(self.lengths, [ROW]), "i32")
            step = ctx.read(self.at(self.clock, 0), [Index(), Index()])
            return select(compare("lt", step, length), new, self.now(ctx, value))

        self.elementwise(self.at(value, 1), name, masked)

    def recurrent(self, left: Value, begin: int, end: int, add_inputs: bool) -> Value:
        """left R' of gates begin..end-1: [batch, gates * hidden], plus the inputs' part."""
        batch, hidden = shape_of(left)
        n = (end - begin) * hidden
        sums = temporary(self.build, self.node, f"sums{self.direction}{begin}", self.dtype, (batch, n))

        def rule(ctx: Context) -> Computation:
            column, k = Index.of("n"), Index.of("k")
            right = ctx.read(self.node.inputs[2], [Index(self.direction), column + begin * hidden, k])
            value: Expr = acc(self.dtype)
            if add_inputs:
                value = op("add", value, ctx.read(self.at(self.inputs, 0), [ROW, column + begin * hidden]))
            return Computation(
                [Axis("b", batch), Axis("n", n)], [ROW, column], value, reduce=[Axis("k", hidden)],
                combine="sum", body=product(ctx.read(left, [ROW, k]), right),
                name=f"{self.node.op.lower()}_gates",
            )  # fmt: skip

        compute(self.build, self.node, sums, rule)
        return sums


def lstm(cell: Cell) -> None:
    """C' = f C + i g(c), H' = o h(C') with gates i, o, f, c in this order."""
    f, g, h = cell.functions
    memory = cell.memory
    assert memory is not None
    sums = cell.recurrent(cell.at(cell.states, 0), 0, 4, True)

    def new_memory(ctx: Context) -> Expr:
        c = cell.now(ctx, memory)
        i = f(cell.gate(ctx, sums, 0, cell.peephole(ctx, 0, c)))
        forget = f(cell.gate(ctx, sums, 2, cell.peephole(ctx, 2, c)))
        if cell.node.attrs.get("input_forget", 0):
            forget = op("sub", like(i, 1), i)
        return op("add", op("mul", forget, c), op("mul", i, g(cell.gate(ctx, sums, 3))))

    def new_state(ctx: Context) -> Expr:
        c = ctx.read(cell.at(memory, 1), [ROW, COLUMN])
        return op("mul", f(cell.gate(ctx, sums, 1, cell.peephole(ctx, 1, c))), h(c))

    cell.store(memory, "lstm_memory", new_memory)
    cell.store(cell.states, "lstm_state", new_state)


def gru(cell: Cell) -> None:
    """H' = (1 - z) h + z H with gates z, r, h.

    h = g(x + (r H) R'), or with linear_before_reset h = g(x + r (H R' + b))."""
    f, g = cell.functions
    state = cell.at(cell.states, 0)
    sums = cell.recurrent(state, 0, 2, True)
    linear = cell.node.attrs.get("linear_before_reset", 0)
    left = state
    if not linear:
        left = temporary(cell.build, cell.node, f"reset{cell.direction}", cell.dtype, shape_of(state))
        cell.elementwise(
            left, "gru_reset", lambda ctx: op("mul", f(cell.gate(ctx, sums, 1)), cell.now(ctx, cell.states))
        )
    candidate = cell.recurrent(left, 2, 3, not linear)

    def new_state(ctx: Context) -> Expr:
        z, old = f(cell.gate(ctx, sums, 0)), cell.now(ctx, cell.states)
        if linear:
            inner = op("add", ctx.read(candidate, [ROW, COLUMN]), cell.bias(ctx, 2))
            h = cell.gate(ctx, cell.at(cell.inputs, 0), 2, op("mul", f(cell.gate(ctx, sums, 1)), inner))
        else:
            h = cell.gate(ctx, candidate, 0)
        return op("add", op("mul", op("sub", like(z, 1), z), g(h)), op("mul", z, old))

    cell.store(cell.states, "gru_state", new_state)


def rnn(cell: Cell) -> None:
    """H' = f(x + H R')."""
    sums = cell.recurrent(cell.at(cell.states, 0), 0, 1, True)
    cell.store(cell.states, "rnn_state", lambda ctx: cell.functions[0](cell.gate(ctx, sums, 0)))


STEPS = {"LSTM": lstm, "GRU": gru, "RNN": rnn}


@composite("LSTM", "GRU", "RNN")
def recurrent(build: Build, node: Node) -> None:
    """Each direction on its own; then the states of all steps become Y, the last ones Y_h and Y_c."""
    if len(shape_of(node.inputs[0])) != 3:
        raise Unsupported(f"{node.op} without a batch dimension")
    x = _time_major(build, node, node.inputs[0])
    time, batch, _ = shape_of(x)
    if time == 0 or batch == 0:
        raise Unsupported(f"{node.op} over no steps")
    way = text(node, "direction", "forward")
    ways = [False, True] if way == "bidirectional" else [way == "reverse"]
    functions = activations(node, len(ways))
    cells = [_cell(build, node, d, back, x, functions[d]) for d, back in enumerate(ways)]
    outputs = [output(build, node, n) if v.name else None for n, v in enumerate(node.outputs)]
    for cell in cells:
        mark = len(build.steps)
        STEPS[node.op](cell)
        _repeat(build, cell, mark, time)
        _results(build, node, cell, outputs, time)


def _time_major(build: Build, node: Node, value: Value | None) -> Value:
    """X or an initial state with its batch second, as layout 0 has it."""
    assert value is not None
    if not node.attrs.get("layout", 0):
        return value
    return part(build, value, layout_of(build, value).permuted([1, 0, 2]))


def _cell(build: Build, node: Node, d: int, backward: bool, x: Value, functions: list[Activation]) -> Cell:
    time, batch, size = shape_of(x)
    gates, hidden, wide = GATES[node.op], shape_of(node.inputs[2])[2], accumulate(x.dtype)
    inputs = temporary(build, node, f"inputs{d}", wide, (time, batch, gates * hidden))

    def rule(ctx: Context) -> Computation:
        at, column, i = [Index.of("t"), ROW], Index.of("n"), Index.of("i")
        value: Expr = acc(wide)
        if node.input(3) is not None:
            value = op("add", value, cast(ctx.read(node.inputs[3], [Index(d), column]), wide))
            both = cast(ctx.read(node.inputs[3], [Index(d), column + gates * hidden]), wide)
            if node.op == "GRU" and node.attrs.get("linear_before_reset", 0):
                # the recurrent bias of the last gate is added before the reset: not here
                last = compare("ge", Expr("axis", "i32", (), column), const(2 * hidden, "i32"))
                both = select(last, const(0, wide), both)
            value = op("add", value, both)
        body = product(ctx.read(x, [*at, i]), ctx.read(node.inputs[1], [Index(d), column, i]))
        axes = [Axis("t", time), Axis("b", batch), Axis("n", gates * hidden)]
        return Computation(
            axes, [*at, column], value, reduce=[Axis("i", size)], combine="sum", body=body,
            name=f"{node.op.lower()}_inputs",
        )  # fmt: skip

    compute(build, node, inputs, rule)
    states = _states(build, node, d, "states", 5, (time + 1, batch, hidden), wide)
    memory = (
        _states(build, node, d, "memory", 6, (time + 1, batch, hidden), wide) if node.op == "LSTM" else None
    )
    clock = constant(build, node, "clock", np.arange(time, dtype=np.int32).reshape(time, 1, 1))
    return Cell(build, node, d, backward, functions, inputs, states, memory, clock, node.input(4))


def _states(
    build: Build, node: Node, d: int, stem: str, number: int, shape: tuple[int, int, int], dtype: str
) -> Value:
    """A buffer of states, the first of them filled from the input `number` or with zeros. What a sequence of no steps
    leaves behind ONNX does not say: zeros, as in onnxruntime, so these are its first states already."""
    made, initial = temporary(build, node, f"{stem}{d}", dtype, shape), node.input(number)
    first = part(build, made, layout_of(build, made).sliced(0, 0, 1, 1))
    if initial is None:
        fill(build, node, first, lambda ctx, idx: const(0, dtype), "zeros")
    else:
        source, lengths = _time_major(build, node, initial), node.input(4)

        def element(ctx: Context, idx: Sequence[Index]) -> Expr:
            given = cast(ctx.read(source, [Index(d), *idx[1:]]), dtype)
            if lengths is None:
                return given
            steps = cast(ctx.read(lengths, [idx[1]]), "i32")
            return select(compare("gt", steps, const(0, "i32")), given, const(0, dtype))

        fill(build, node, first, element, "initial")
    return made


def _repeat(build: Build, cell: Cell, mark: int, time: int) -> None:
    """The kernels of the first step become a loop over all steps; what does not depend on it (a weight that is packed)
    is done once."""
    moves: dict[Buffer, int] = {}
    for value in (cell.inputs, cell.states, cell.memory, cell.clock):
        if value is not None:
            buffer, layout = build.tensors.place(value)
            back = cell.backward and value in (cell.inputs, cell.clock)
            moves[buffer] = -layout.strides[0] if back else layout.strides[0]
    repeat(build, mark, time, moves, frozenset({build.tensors.place(cell.clock)[0]}))


def _results(build: Build, node: Node, cell: Cell, outputs: list[Value | None], time: int) -> None:
    """Y[t, d], Y_h[d] and Y_c[d] out of the states (layout 1 has the batch first)."""
    first = bool(node.attrs.get("layout", 0))
    y = outputs[0]
    if y is not None:
        layout = (
            layout_of(build, y)
            .permuted([1, 2, 0, 3] if first else [0, 1, 2, 3])
            .sliced(1, cell.direction, 1, 1)
        )
        into = part(build, y, layout.permuted([1, 0, 2, 3]))

        def element(ctx: Context, idx: list[Index]) -> Expr:
            done = idx[1] * -1 + time if cell.backward else idx[1] + 1
            value = cast(ctx.read(cell.states, [done, *idx[2:]]), into.dtype)
            if cell.lengths is None:
                return value
            now = Expr("axis", "i32", (), idx[1])
            length = cast(ctx.read(cell.lengths, [idx[2]]), "i32")
            return select(compare("lt", now, length), value, const(0, into.dtype))

        fill(build, node, into, element, "states")  # type: ignore[arg-type]
    for number, source in ((1, cell.states), (2, cell.memory)):
        out = outputs[number] if number < len(outputs) else None
        if out is not None and source is not None:
            layout = (
                layout_of(build, out)
                .permuted([1, 0, 2] if first else [0, 1, 2])
                .sliced(0, cell.direction, 1, 1)
            )
            last = part(build, source, layout_of(build, source).sliced(0, time, 1, 1))
            into = part(build, out, layout)
            fill(build, node, into, lambda ctx, idx, last=last, t=into.dtype: cast(ctx.read(last, idx), t))  # type: ignore[misc]
