"""Small plans for the engine's tests, made with the real plan linker and hand-written kernels.

A Toy collects constants, kernels and steps and lays out memory as the planner does (null guard, control
words, then data); `Toy.plan()` gives the plain object that crosses to JavaScript, bytes as {"$base64": text}.
"""

from __future__ import annotations

import base64
from typing import Any, Literal

import numpy as np

from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.module import kernel_function, kernel_module
from nnjit.codegen.wasm.planfn import PlanStep, plan_module
from nnjit.codegen.wasm.team_words import CONTROL_END

PAGE = 65536
FIRST_ADDRESS = CONTROL_END
ARGS, BEGIN, END = 0, 1, 2


def packed(data: bytes) -> dict[str, str]:
    return {"$base64": base64.b64encode(data).decode()}


def rotate_add(name: str, n: int, amount: int) -> FunctionBuilder:
    """A kernel over n tiles of one i32: out[i] = x[(i + 1) % n] + amount. Operands: x, out."""
    b = kernel_function(name)
    i = b.local("i32", "i")
    b.get(BEGIN)
    b.set(i)
    with b.block() as done, b.loop() as again:
        b.get(i)
        b.get(END)
        b.op("i32.ge_s")
        b.br_if(done)
        _element(b, 1, i)
        b.get(ARGS)
        b.load("i32.load", offset=0)
        b.get(i)
        b.i32_const(1)
        b.op("i32.add")
        b.i32_const(n)
        b.op("i32.rem_u")
        b.i32_const(2)
        b.op("i32.shl")
        b.op("i32.add")
        b.load("i32.load")
        b.i32_const(amount)
        b.op("i32.add")
        b.load("i32.store")
        _next(b, i)
        b.br(again)
    return b


def scale(name: str, factor: float, tile: int) -> FunctionBuilder:
    """A kernel over tiles of `tile` f32: out[i] = x[i] * factor. Operands: x, out."""
    b = kernel_function(name)
    i, stop = b.local("i32", "i"), b.local("i32", "stop")
    for source, target in ((BEGIN, i), (END, stop)):
        b.get(source)
        b.i32_const(tile)
        b.op("i32.mul")
        b.set(target)
    with b.block() as done, b.loop() as again:
        b.get(i)
        b.get(stop)
        b.op("i32.ge_s")
        b.br_if(done)
        _element(b, 1, i)
        _element(b, 0, i)
        b.load("f32.load")
        b.f32_const(factor)
        b.op("f32.mul")
        b.load("f32.store")
        _next(b, i)
        b.br(again)
    return b


def trap_at(name: str, tile: int, how: Literal["unreachable", "bounds"]) -> FunctionBuilder:
    """A kernel that stops in the thread which has `tile`, if the i32 at x is not 0. Operand: x."""
    b = kernel_function(name)
    b.get(ARGS)
    b.load("i32.load")
    b.load("i32.load")
    b.get(BEGIN)
    b.i32_const(tile)
    b.op("i32.le_s")
    b.op("i32.and")
    b.get(END)
    b.i32_const(tile)
    b.op("i32.gt_s")
    b.op("i32.and")
    with b.if_():
        if how == "unreachable":
            b.unreachable()
        else:
            b.i32_const(-16)
            b.load("i32.load")
            b.drop()
    return b


def spin(name: str, turns: int) -> FunctionBuilder:
    """A kernel that counts to `turns` for each of its tiles and adds that to out. Operand: out (i32)."""
    b = kernel_function(name)
    i, tile = b.local("i32", "i"), b.local("i32", "tile")
    b.get(BEGIN)
    b.set(tile)
    with b.block() as done, b.loop() as again:
        b.get(tile)
        b.get(END)
        b.op("i32.ge_s")
        b.br_if(done)
        b.i32_const(0)
        b.set(i)
        with b.loop() as more:
            _next(b, i)
            b.get(i)
            b.i32_const(turns)
            b.op("i32.lt_s")
            b.br_if(more)
        b.get(ARGS)
        b.load("i32.load")
        b.get(i)
        b.load("i32.store")
        _next(b, tile)
        b.br(again)
    return b


def _element(b: FunctionBuilder, operand: int, index: int) -> None:
    """Address of element `index` (a local) of an operand with 4-byte elements."""
    b.get(ARGS)
    b.load("i32.load", offset=4 * operand)
    b.get(index)
    b.i32_const(2)
    b.op("i32.shl")
    b.op("i32.add")


def _next(b: FunctionBuilder, local: int) -> None:
    b.get(local)
    b.i32_const(1)
    b.op("i32.add")
    b.set(local)


class Toy:
    """A plan under construction; addresses start at `base`, table slots at `table_base`."""

    def __init__(
        self, key: str, shared: bool, base: int = FIRST_ADDRESS, table_base: int = 0, version: int = 1
    ) -> None:
        self.key = key
        self.shared = shared
        self.top = base
        self.table_base = table_base
        self.version = version
        self.kernels: list[FunctionBuilder] = []
        self.steps: list[tuple[PlanStep, str]] = []
        self.init: list[dict[str, Any]] = []
        self.segments: list[dict[str, Any]] = []
        self.inputs: list[dict[str, Any]] = []
        self.outputs: list[dict[str, Any]] = []

    def room(self, nbytes: int) -> int:
        address = self.top
        self.top += (nbytes + 63) // 64 * 64
        return address

    def tensor(self, name: str, type_: str, count: int) -> dict[str, Any]:
        address = self.room(4 * count)
        return {"name": name, "type": type_, "dims": [count], "address": address, "nbytes": 4 * count}

    def kernel(self, function: FunctionBuilder) -> int:
        """Its slot."""
        self.kernels.append(function)
        return self.table_base + len(self.kernels) - 1

    def args(self, *addresses: int) -> int:
        address = self.room(4 * len(addresses))
        data = np.array(addresses, np.int32).tobytes()
        self.init.append({"kind": "bytes", "address": address, "data": packed(data)})
        return address

    def step(
        self, slot: int, args: int, tiles: int, name: str = "", parallel: bool = True, barrier: bool = True,
        loop: int = 0, times: int = 1, advance: int = 0,
    ) -> int:  # fmt: skip
        """Its index."""
        step = PlanStep(slot, args, tiles, parallel, barrier, loop=loop, times=times, advance=advance)
        self.steps.append((step, name or f"step{len(self.steps)}"))
        return len(self.steps) - 1

    def wasm(self, first: int, last: int) -> None:
        self.segments.append({"kind": "wasm", "first": first, "last": last})

    def host(self, call: str, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        self.segments.append({"kind": "host", "call": call, "inputs": inputs, "outputs": outputs})

    def plan(self, pages: int = 0) -> dict[str, Any]:
        if not self.segments:
            self.wasm(0, len(self.steps))
        module = plan_module(self.kernels, [step for step, _ in self.steps], self.table_base, self.shared)
        steps = [
            {**step._asdict(), "name": name, "nodes": [f"node_{name}"], "flops": 0, "bytes": 0,
             "kernel": self.kernels[step.slot - self.table_base].name}
            for step, name in self.steps
        ]  # fmt: skip
        return {
            "version": self.version,
            "key": self.key,
            "threads": self.shared,
            "pages": max(pages, -(-(self.top + 64) // PAGE)),
            "module": packed(module),
            "tableBase": self.table_base,
            "slots": len(self.kernels),
            "steps": steps,
            "segments": self.segments,
            "init": self.init,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "stats": {},
        }


def scale_plan(
    key: str, shared: bool, factors: list[float], count: int = 256, tile: int = 16, **where: int
) -> dict[str, Any]:
    """x -> x * factors[0] * factors[1] ...: one step a factor."""
    toy = Toy(key, shared, **where)
    x = toy.tensor("x", "float32", count)
    toy.inputs.append(x)
    for k, factor in enumerate(factors):
        y = toy.tensor("y", "float32", count)
        slot = toy.kernel(scale(f"scale_{k}", factor, tile))
        toy.step(slot, toy.args(x["address"], y["address"]), count // tile)
        x = y
    toy.outputs.append(x)
    return toy.plan()


def rotate_plan(key: str, shared: bool, steps: int, count: int) -> dict[str, Any]:
    """`steps` times out[i] = x[i + 1] + 1, to and fro between two buffers: wrong if one barrier fails."""
    toy = Toy(key, shared)
    a, b = toy.tensor("a", "int32", count), toy.tensor("b", "int32", count)
    slot = toy.kernel(rotate_add("rotate_add", count, 1))
    there, back = toy.args(a["address"], b["address"]), toy.args(b["address"], a["address"])
    for k in range(steps):
        toy.step(slot, back if k % 2 else there, count)
    toy.inputs.append(a)
    toy.outputs.append(b if steps % 2 else a)
    return toy.plan()


def trap_plan(
    key: str, shared: bool, tile: int, tiles: int, how: Literal["unreachable", "bounds"]
) -> dict[str, Any]:
    """Adds 1 to x, stops in step 2 if flag is set, adds 1 again."""
    toy = Toy(key, shared)
    flag = toy.tensor("flag", "int32", 1)
    x, y, z = (toy.tensor(name, "int32", tiles) for name in "xyz")
    add = toy.kernel(rotate_add("rotate_add", tiles, 1))
    trap = toy.kernel(trap_at("trap_at", tile, how))
    toy.step(add, toy.args(x["address"], y["address"]), tiles)
    fine = toy.args(toy.room(4))
    toy.init.append({"kind": "fill", "address": toy.room(4), "length": 4, "value": 0})
    toy.step(trap, fine, tiles, "harmless")
    toy.step(trap, toy.args(flag["address"]), tiles, "harmful")
    toy.step(add, toy.args(y["address"], z["address"]), tiles)
    toy.inputs += [flag, x]
    toy.outputs.append(z)
    return toy.plan()


def one_kernel(function: FunctionBuilder, shared: bool) -> dict[str, str]:
    return packed(kernel_module(function, shared))
