"""Probing: microbenchmarks of a device. Gives kernels for the engine's lab, takes their times, makes DeviceFacts.

What is timed: independent multiply-add chains and register tiles (more and more of them, until the engine spills),
passes over more and more memory, dependent loads, exp of an array, barriers. `probe_kernels` has those written by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from nnjit.codegen.expr import Index, acc, const, load, op
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.facts import LANES
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.schedule.steps import Order, Parallel, Tile, Unroll, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.codegen.wasm.emit import emit_module
from nnjit.codegen.wasm.module import kernel_function, kernel_module
from nnjit.codegen.wasm.planfn import PlanStep, plan_module
from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wasm.team_words import CONTROL_END
from nnjit.tune.device import DeviceFacts
from nnjit.tune.policy import LAB, PROBING
from nnjit.tune.probe_kernels import HOPS, SHOWN, STEPS, chase, multiply_add, rounding, stream

CHAINS = (8, 10, 12, 13)
"""Independent multiply-adds: cores that do two a cycle need eight at a latency of four cycles, ten at one of five."""
TILES = ((5, 2), (6, 2), (4, 3), (7, 2), (8, 2), (4, 4), (6, 3), (8, 3), (9, 3), (7, 4))
"""Rows and vectors of register tiles, in the order of the registers that they take."""
DEPTH = 256
"""Steps of the sum of a register tile."""
SIZES = tuple(n << 10 for n in (16, 128, 1024, 4096, 32768))
"""Bytes that are passed over, from a first-level cache to memory."""
CHASES = tuple(1 << n for n in range(14, 26))
"""Bytes that dependent loads go through."""
EXPS = 8192
"""Elements of the array whose exp is taken."""
BARRIERS = 200
"""Steps with next to no work, which all threads share."""
CLIFF = 0.8
"""A rate below this part of the best one before it is a fall off a cliff, not noise."""
# Addresses: pointers of operands, and the memory that they point into.
ARGS, FIRST = CONTROL_END, CONTROL_END + 4096
LAST = FIRST + SIZES[-1]
PAGE = 65536


@dataclass(frozen=True, slots=True)
class Probing:
    """See the module."""

    relaxed: bool
    threads: int
    shared: bool

    def work(self) -> dict[str, Any]:
        """{pages, kernels: [{name, module, args, pointers, tiles, parallel}]}: `tiles` rounds are a first guess."""
        kernels = [self._chains(f"add {n}", n, fused=False) for n in (8, 12)]
        if self.relaxed:
            kernels += [self._chains(f"fma {n}", n, fused=True) for n in CHAINS]
            if self.threads > 1:
                kernels.append({**self._chains("all", 12, fused=True), "parallel": True})
        kernels += [self._tile(mr, nv) for mr, nv in TILES]
        kernels += [self._stream(n) for n in SIZES]
        kernels += [self._chase(n) for n in CHASES]
        kernels.append(self._exp())
        if self.relaxed:
            kernels.append(self._kernel("rounding", kernel_module(rounding(), self.shared), 1))
        pages = -(-(FIRST + SIZES[-1] + 4096) // PAGE)
        return {
            "pages": pages,
            "kernels": kernels,
            "fill": [FIRST, SIZES[-1] + 4096],
            "barriers": self._barriers(),
            "reads": [{"address": LAST + SHOWN, "length": 4}],
            "policy": {**LAB, "pace": PROBING},
        }

    def _barriers(self) -> dict[str, Any] | None:
        """A plan of nothing but barriers; None where one thread meets none."""
        if self.threads < 2 or not self.shared:
            return None
        empty = kernel_function("empty")
        empty.finish()
        flags = [PlanStep(0, ARGS, self.threads) for _ in range(BARRIERS)]
        step = {"slot": 0, "args": ARGS, "tiles": self.threads, "parallel": True, "barrier": True, "name": "",
                "kernel": "", "nodes": []}  # fmt: skip
        return {
            "tableBase": 0,
            "slots": 1,
            "module": plan_module([empty], flags, 0, True),
            "steps": [step] * BARRIERS,
            "init": [],
        }

    def _kernel(
        self, name: str, code: bytes, tiles: int, pointers: Sequence[int] = (FIRST, LAST)
    ) -> dict[str, Any]:
        return {"name": name, "module": code, "args": ARGS, "pointers": list(pointers), "tiles": tiles,
                "parallel": False, "packs": []}  # fmt: skip

    def _chains(self, name: str, chains: int, fused: bool) -> dict[str, Any]:
        return self._kernel(name, kernel_module(multiply_add(chains, fused), self.shared), 400)

    def _stream(self, nbytes: int) -> dict[str, Any]:
        code = kernel_module(stream(nbytes), self.shared)
        return self._kernel(f"read {nbytes}", code, max(1, (256 << 10) // nbytes))

    def _chase(self, nbytes: int) -> dict[str, Any]:
        return self._kernel(f"chase {nbytes}", kernel_module(chase(nbytes), self.shared), 2)

    def _tile(self, mr: int, nv: int) -> dict[str, Any]:
        """A register tile of a matrix product, as every product's inner loop is emitted."""
        n = nv * LANES
        a = load(0, Index(0, {"m": DEPTH, "k": 1}), "f32")
        b = load(1, Index(0, {"k": n, "n": 1}), "f32")
        place = Index(0, {"m": n, "n": 1})
        stage = Stage((), (Axis("k", DEPTH),), "sum", op("mul", a, b), acc("f32"), 2, place)
        sizes = (("in", mr * DEPTH), ("in", n * DEPTH), ("out", mr * n))
        operands = tuple(Operand("f32", size, role) for role, size in sizes)
        spec = KernelSpec(f"tile_{mr}x{nv}", (Axis("m", mr), Axis("n", n)), (stage,), operands)
        schedule = (
            Tile("n", n),
            Vectorize("n", LANES),
            Tile("m", mr),
            Unroll("k", 2),
            Order(("n", "m")),
            Parallel(("n",)),
        )
        target = Target(relaxed=self.relaxed, shared=self.shared)
        # one tile: whichever numbers it is called with, it does the same again
        code = emit_module(apply(spec, schedule), target)
        places = (FIRST, FIRST + (64 << 10), FIRST + (128 << 10))
        return self._kernel(f"tile {mr}x{nv}", code, 4, places)

    def _exp(self) -> dict[str, Any]:
        x = load(0, Index.of("i"), "f32")
        stage = Stage((), (), "", None, op("exp", op("mul", x, const(0.5, "f32"))), 1, Index.of("i"))
        spec = KernelSpec("exp", (Axis("i", EXPS),), (stage,),
                          (Operand("f32", EXPS, "in"), Operand("f32", EXPS, "out")))  # fmt: skip
        target = Target(relaxed=self.relaxed, shared=self.shared)
        nest = apply(spec, default_schedule(spec, target))
        return self._kernel("exp", emit_module(nest, target, units=1), 1, (FIRST, FIRST + 8 * EXPS))

    def facts(
        self, times: Mapping[str, float], values: Sequence[Sequence[int]], barrier_us: float
    ) -> DeviceFacts:
        """`times`: ms of one round, however many threads did it. values: the bytes that `work` asked to read."""
        rate = {name: work_of(name) / ms / 1e6 for name, ms in times.items() if work_of(name) and ms > 0}
        added = max(r for n, r in rate.items() if n.startswith("add"))
        fused = max((r for n, r in rate.items() if n.startswith("fma")), default=added)
        bandwidth = tuple(
            (n, round(n / times[f"read {n}"] / 1e6, 2)) for n in SIZES if times.get(f"read {n}")
        )
        scaling = max(1.0, rate["all"] / rate["fma 12"]) if "all" in rate else 1.0
        hops = [(n, 1e6 * times[f"chase {n}"] / HOPS) for n in CHASES if f"chase {n}" in times]
        l1, l2 = caches(hops)
        return DeviceFacts(
            measured=True,
            fma_gflops=round(fused, 2),
            muladd_gflops=round(added, 2),
            registers=registers(
                {t: rate[f"tile {t[0]}x{t[1]}"] for t in TILES if f"tile {t[0]}x{t[1]}" in rate}
            ),
            l1_bytes=l1,
            l2_bytes=l2,
            bandwidth=bandwidth,
            threads=self.threads,
            scaling=round(min(scaling, float(self.threads)), 3),
            barrier_us=round(barrier_us, 3),
            exp_ns=round(1e6 * times["exp"] / EXPS, 4),
            relaxed=relaxed_kinds(self.relaxed, values),
        )


def work_of(name: str) -> int:
    """f32 operations in a round of the kernel of this name; 0 for those that count other things."""
    kind, _, size = name.partition(" ")
    if kind == "tile":
        mr, nv = size.split("x")
        return 2 * LANES * DEPTH * int(mr) * int(nv)
    chains = {"add": size, "fma": size, "all": "12"}.get(kind)
    return 2 * LANES * STEPS * int(chains) if chains else 0


def needed(mr: int, nv: int) -> int:
    """Registers of a tile: its sums, a row of the panel, one splat."""
    return mr * nv + nv + 1


def registers(rates: Mapping[tuple[int, int], float]) -> int:
    """Values that live at once before the rate of a product's tiles falls off."""
    if not rates:
        return DeviceFacts().registers
    best, last = 0.0, needed(*TILES[0])
    for mr, nv in sorted(rates, key=lambda t: needed(*t)):
        if best and rates[mr, nv] < CLIFF * best:
            break
        best, last = max(best, rates[mr, nv]), needed(mr, nv)
    return last


def caches(hops: Sequence[tuple[int, float]]) -> tuple[int, int]:
    """Bytes of the first and second cache from (bytes of the working set, ns of a dependent load): the sizes before
    the steepest rise up to 256 KiB, and before the first clear one after that."""
    usual = DeviceFacts()
    rises = [(b[1] / a[1], a[0]) for a, b in pairwise(hops)]
    small = [r for r in rises if r[1] <= 128 << 10]
    l1 = max(small)[1] if small and max(small)[0] > 1.2 else usual.l1_bytes
    l2 = next(
        (size for rise, size in rises if size >= 4 * l1 and size >= 128 << 10 and rise > 1.45), usual.l2_bytes
    )
    return l1, l2


def relaxed_kinds(relaxed: bool, values: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """`fused` where relaxed_madd rounds once, `split` where it rounds twice (the product and the sum)."""
    if not relaxed:
        return ()
    return ("fused",) if any(any(v) for v in values) else ("split",)
