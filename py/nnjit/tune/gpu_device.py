"""GpuFacts: what microbenchmarks found about a GPU, and the microbenchmarks: shaders made for it, in WGSL.

Takes plain data (stored by the page, or just measured); gives a checked record and the shortest time that a kernel
could take there. Rates are those of whole dispatches, as timestamps have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.emit import ENTRY_POINT, Binding, Shader
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.codegen.wgsl.types import operand_bytes
from nnjit.tune.device import flops

VERSION = 1
"""Facts of another version are measured anew."""
CHAINS = 8
"""Independent vectors of sums that a thread of the arithmetic probe has."""
ROUNDS = 256
"""Multiply-adds of each vector in a run of that probe."""


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """gflops: f32 multiply-adds, two operations each. gbytes: GB/s that a copy from one large buffer to another reads
    and writes together. near: the same over a buffer that the caches hold. dispatch_us: what a dispatch takes that
    does nothing. Measured, or too good to be true, so that no kernel is thought to be at its bound."""

    measured: bool = False
    gflops: float = 1e6
    gbytes: float = 1e5
    near: float = 1e5
    dispatch_us: float = 0.0
    version: int = VERSION

    @staticmethod
    def read(given: Mapping[str, Any] | None) -> GpuFacts:
        """Stored facts; those that bound nothing where there are none, or none of this version and form."""
        if not given or given.get("version") != VERSION:
            return GpuFacts()
        try:
            gflops, gbytes, near, us = (float(given[n]) for n in ("gflops", "gbytes", "near", "dispatch_us"))
            facts = GpuFacts(bool(given["measured"]), gflops, gbytes, near, us)
        except (TypeError, ValueError, KeyError):
            return GpuFacts()
        return facts if all(0 < x < 1e9 for x in (facts.gflops, facts.gbytes, facts.near)) else GpuFacts()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def bound_ms(self, spec: KernelSpec, target: WgslTarget) -> float:
        """No kernel of `spec` takes less: f32 arithmetic at peak, each byte moved once, a dispatch. Where subgroup
        matrices may do the arithmetic, the bytes alone."""
        touched = sum(operand_bytes(o, target.half) for o in spec.operands if o.role != "scratch")
        narrow = any(o.dtype in ("f16", "i8", "u8") for o in spec.operands)
        work = 0.0 if target.matrices and narrow else flops(spec) / (self.gflops * 1e6)
        return max(work, touched / (max(self.near, self.gbytes) * 1e6), self.dispatch_us / 1e3)


@dataclass(frozen=True, slots=True)
class Probe:
    """A microbenchmark: a shader over buffers of its own; `amount`: operations or bytes of one dispatch."""

    name: str
    shader: Shader
    amount: float

    def to_js(self) -> dict[str, Any]:
        return {"name": self.name, "shader": self.shader.to_js()}


def probes(target: WgslTarget) -> list[Probe]:
    """Arithmetic, copies of a large and of a small buffer, and nothing at all; as large as keeps the device busy for
    some hundred microseconds."""
    threads = 8 * target.invocations
    large = min(16 * 64 * target.invocations, target.max_binding_bytes, 128 << 20)
    small = min(large, 4 << 20)
    return [
        Probe("fma", _fma(threads), threads * CHAINS * 4 * 2 * ROUNDS),
        Probe("far", _copy("copy_far", large, target), 2 * large),
        Probe("near", _copy("copy_near", small, target), 2 * small),
        Probe("nothing", _shader("nothing", "", "", 16, 16, (1, 1, 1)), 1),
    ]


def facts_of(found: list[Probe], ms: Mapping[str, float]) -> GpuFacts:
    """From the times of the probes' dispatches."""
    amount = {p.name: p.amount for p in found}
    rate = {n: amount[n] / (max(ms[n], 1e-6) * 1e6) for n in ("fma", "far", "near")}
    return GpuFacts(True, rate["fma"], rate["far"], rate["near"], 1e3 * ms["nothing"])


def _fma(threads: int) -> Shader:
    """Chains that depend on what a buffer holds, so that nothing can be worked out before."""
    names = [f"a{i}" for i in range(CHAINS)]
    begin = "".join(f"  var {n} = x * {i + 1}.0;\n" for i, n in enumerate(names))
    chain = "".join(f"    {n} = fma({n}, x, y);\n" for n in names)
    body = (
        "  let x = source[at & 255u];\n  let y = source[(at + 1u) & 255u];\n"
        f"{begin}  for (var i = 0; i < {ROUNDS}; i++) {{\n{chain}  }}\n  into[at] = {' + '.join(names)};\n"
    )
    return _shader("fma", body, "at", 4096, 16 * threads, (threads // 64, 1, 1))


def _copy(name: str, nbytes: int, target: WgslTarget) -> Shader:
    """Four vectors a thread, neighbours beside each other."""
    vectors = nbytes // 16
    groups = min(-(-vectors // 256), target.max_groups)
    body = "".join(
        f"  {{ let p = base + {64 * i}u; if (p < {vectors}u) {{ into[p] = source[p] * 2.0; }} }}\n"
        for i in range(4)
    )
    return _shader(
        name, f"  let base = (at / 64u) * 256u + at % 64u;\n{body}", "at", nbytes, nbytes, (groups, 1, 1)
    )


def _shader(name: str, body: str, at: str, read: int, written: int, dispatch: tuple[int, int, int]) -> Shader:
    """One thread a point, 64 in a workgroup, over a buffer to read and one to write."""
    given = "@builtin(global_invocation_id) id: vec3u" if at else ""
    first = f"  let {at} = id.x;\n" if at else ""
    text = (
        "@group(0) @binding(0) var<storage, read> source: array<vec4f>;\n"
        "@group(0) @binding(1) var<storage, read_write> into: array<vec4f>;\n\n"
        f"@compute @workgroup_size(64)\nfn {ENTRY_POINT}({given}) {{\n{first}{body}}}\n"
    )
    bindings = (Binding(0, "f32", "in", read // 4, read), Binding(1, "f32", "out", written // 4, written))
    return Shader(name, text, ENTRY_POINT, 64, dispatch, bindings)
