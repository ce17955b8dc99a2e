"""Device classes: takes what a page can tell about its machine, gives a coarse name that many machines share.

    wasm.v8-150.x86.fused.4c.2t.1m      webgpu.v8-150.nvidia.ampere.s32.f16

A record made on one machine of a class is worth trying on every other. The parts are few and each has few
values, so that a class tells speed apart and people hardly; docs/records.md lists them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from nnjit.errors import RecordError

ENGINES = ("v8", "spidermonkey", "jsc", "other")
ISAS = ("x86", "arm", "other")
MADDS = ("none", "split", "fused")
"""No relaxed SIMD; f32x4.relaxed_madd rounds twice; it rounds once (one instruction, twice the peak)."""
CACHES = {"x": 0, "256k": 1 << 18, "1m": 1 << 20, "4m": 1 << 22}
"""Second-level cache, bytes; x where it is not known."""
VENDORS = ("nvidia", "amd", "intel", "apple", "arm", "qualcomm", "samsung", "imagination", "google", "other")
SUBGROUPS = (0, 4, 8, 16, 32, 64, 128)
COUNTS = (1, 2, 4, 8, 16, 32, 64)
_NAMES = {
    "wasm": rf"wasm\.({'|'.join(ENGINES)})-(\d{{1,2}}0|0)\.({'|'.join(ISAS)})\.({'|'.join(MADDS)})"
    rf"\.({'|'.join(map(str, COUNTS))})c\.({'|'.join(map(str, COUNTS))})t\.({'|'.join(CACHES)})",
    "webgpu": rf"webgpu\.({'|'.join(ENGINES)})-(\d{{1,2}}0|0)\.({'|'.join(VENDORS)})\.([a-z0-9-]{{1,16}})"
    rf"\.s({'|'.join(map(str, SUBGROUPS))})\.(f16|f32)",
}
_PATTERNS = {target: re.compile(text, re.ASCII) for target, text in _NAMES.items()}
_ARCHITECTURE = re.compile(r"[a-z0-9-]{1,16}")


@dataclass(frozen=True, slots=True)
class Device:
    """A class by its name; `target` is wasm or webgpu."""

    name: str

    def __post_init__(self) -> None:
        if not is_device(self.name, self.target):
            raise RecordError(f"{self.name[:80]!r} is no device class", path="device")

    @property
    def target(self) -> str:
        return self.name.partition(".")[0]


def is_device(name: str, target: str) -> bool:
    """Whether `name` is a class of that target."""
    pattern = _PATTERNS.get(target)
    return pattern is not None and isinstance(name, str) and pattern.fullmatch(name) is not None


def wasm_device(
    engine: str, version: int, isa: str, madd: str, cores: int, threads: int, cache: int = 0
) -> Device:
    """The class of a Wasm target. `version`: the browser's major number; `cores`: hardwareConcurrency;
    `threads`: what the session uses; `cache`: measured second-level cache, bytes (0: not known)."""
    size = next(n for n, b in CACHES.items() if b == nearest(cache, tuple(CACHES.values())))
    parts = (
        f"{_one_of(engine, ENGINES)}-{decade(version)}",
        _one_of(isa, ISAS),
        madd,
        f"{count(cores)}c",
        f"{count(threads)}t",
        size,
    )
    return Device(".".join(("wasm", *parts)))


def gpu_device(
    engine: str, version: int, vendor: str, architecture: str, subgroup: int, half: bool
) -> Device:
    """The class of a WebGPU target: GPUAdapterInfo's vendor and architecture, subgroupMinSize, shader-f16."""
    architecture = architecture.lower().replace(" ", "-").replace("_", "-")
    parts = (
        f"{_one_of(engine, ENGINES)}-{decade(version)}",
        _one_of(vendor.lower(), VENDORS),
        architecture if _ARCHITECTURE.fullmatch(architecture) else "other",
        f"s{subgroup if subgroup in SUBGROUPS else 0}",
        "f16" if half else "f32",
    )
    return Device(".".join(("webgpu", *parts)))


def engine_of(user_agent: str) -> tuple[str, int]:
    """(engine, the browser's major version) from navigator.userAgent; ("other", 0) where it says neither.

    A browser that only names Chrome to be let in (Edge, Opera) has Chrome's engine and version too.
    """
    for name, mark in (("v8", r"Chrom(?:e|ium)/(\d+)"), ("spidermonkey", r"Firefox/(\d+)")):
        found = re.search(mark, user_agent)
        if found:
            return name, int(found.group(1)[:4])
    found = re.search(r"Version/(\d+)[.\d]* (?:Mobile/\w+ )?Safari/", user_agent)
    return ("jsc", int(found.group(1)[:4])) if found else ("other", 0)


def decade(version: int) -> int:
    """156 -> 150: browsers' versions change monthly, their code generators seldom."""
    return min(max(version, 0), 990) // 10 * 10


def count(n: int) -> int:
    """The largest power of two up to `n`, at most 64."""
    return max(c for c in COUNTS if c <= max(n, 1))


def nearest(value: int, buckets: tuple[int, ...]) -> int:
    """The bucket nearest by ratio; 0 for nothing known."""
    return min((b for b in buckets if b), key=lambda b: abs(math.log(b / value))) if value > 0 else 0


def _one_of(value: str, known: tuple[str, ...]) -> str:
    return value if value in known else "other"
