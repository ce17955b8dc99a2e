"""Records and reporters made up for tests of the kernel database: small specs, any ratio, any network."""

from __future__ import annotations

from functools import cache

from nnjit.codegen.schedule.steps import Schedule, Tile, Vectorize
from nnjit.tune.device_class import wasm_device
from nnjit.tune.records import Record, Timing, rounded

DEVICE = wasm_device("v8", 156, "x86", "fused", 2, 2, 1 << 20).name
DEFAULT_US = 100.0


@cache
def spec(number: int = 0) -> str:
    """The text of a matrix product; another number, another spec."""
    m, n, k = 3 + number % 1000, 4 + number // 1000, 5
    return (
        f"kernel over m:{m} n:{n}\n  $0 in f32[{m * k}]\n  $1 in f32[{k * n}] const\n  $2 out f32[{m * n}]\n"
        f"  acc = sum over k:{k} of mul($0[k + {k}*m], $1[{n}*k + n])\n  $2[{n}*m + n] = %acc"
    )


def schedule(tile: int) -> Schedule:
    return (Tile("m", tile), Vectorize("n"))


def record(
    tile: int = 6, ratio: float = 0.5, spec_number: int = 0, device: str = DEVICE, verdict: str = "timed"
) -> Record:
    """Schedule number `tile` at `ratio` times the default's time, or failed with another verdict."""
    if verdict != "timed":
        return Record("wasm", device, spec(spec_number), schedule(tile), verdict)
    mine, default = Timing(rounded(DEFAULT_US * ratio), 1.0, 9), Timing(DEFAULT_US, 1.0, 9)
    return Record("wasm", device, spec(spec_number), schedule(tile), "timed", mine, default)


def network(number: int) -> str:
    """A /24 of its own for each number."""
    return f"10.{number >> 8 & 255}.{number & 255}.0/24"


class Clock:
    """Seconds that pass when told to."""

    def __init__(self, now: float = 1.8e9) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
