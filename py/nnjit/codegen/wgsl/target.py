"""WgslTarget: the WebGPU device that a shader is for. Its limits are those that every WebGPU device has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SOFTWARE = 64
"""Invocations that keep a software adapter busy."""


@dataclass(frozen=True, slots=True)
class WgslTarget:
    """workgroup: invocations in a workgroup. subgroup: how many run in lockstep. invocations: how many
    keep the device busy (16,384 on a large GPU, tens on a software adapter). features: WebGPU's names.
    matrices: subgroup matrices that the adapter multiplies, as (component, result, m, n, k). attention: "fused" into
    one kernel where a tile of it fits, or "split" into two products and a softmax. bounded: values larger than a buffer
    stay with the reference. merge: products of one left factor become one. half_sums: matrices of f16 may sum up in
    f16, for short stretches (`schedule.half_sums`)."""

    workgroup: int = 64
    subgroup: int = 32
    invocations: int = 16384
    max_workgroup: int = 256  # maxComputeInvocationsPerWorkgroup
    max_groups: int = 65535  # maxComputeWorkgroupsPerDimension
    max_bindings: int = 8  # maxStorageBuffersPerShaderStage
    max_binding_bytes: int = 128 << 20  # maxStorageBufferBindingSize
    max_buffer_bytes: int = 256 << 20  # maxBufferSize
    max_shared_bytes: int = 16384  # maxComputeWorkgroupStorageSize
    offset_alignment: int = 256  # minStorageBufferOffsetAlignment
    features: frozenset[str] = frozenset()
    matrices: tuple[tuple[str, str, int, int, int], ...] = ()
    attention: str = "fused"
    bounded: bool = False
    merge: bool = True
    half_sums: bool = False

    @property
    def dot(self) -> str:
        """What an i8 is multiplied with four at a time: dot4I8Packed takes i8 alone."""
        return "s8"

    @property
    def lockstep(self) -> int:
        """Threads with consecutive numbers that can swap registers: a subgroup, where all of them are as large and
        the device has the instructions; else 1."""
        return self.subgroup if "subgroups" in self.features else 1

    @property
    def half(self) -> bool:
        """Whether f16 is a type of the device."""
        return "shader-f16" in self.features

    @staticmethod
    def read(facts: Mapping[str, Any]) -> WgslTarget:
        """From what web/engine/webgpu/device.js says of an adapter."""
        limits = facts["limits"]
        features = frozenset(str(f) for f in facts.get("features", ()))
        if facts.get("subgroup") != facts.get("subgroupMax"):
            features -= {"subgroups"}  # a thread's number does not say then which subgroup it is of
        return WgslTarget(
            subgroup=int(facts.get("subgroup") or 32),
            invocations=SOFTWARE if facts.get("software") else WgslTarget().invocations,
            max_workgroup=int(limits["maxComputeInvocationsPerWorkgroup"]),
            max_groups=int(limits["maxComputeWorkgroupsPerDimension"]),
            max_bindings=int(limits["maxStorageBuffersPerShaderStage"]),
            max_binding_bytes=int(limits["maxStorageBufferBindingSize"]),
            max_buffer_bytes=int(limits["maxBufferSize"]),
            max_shared_bytes=int(limits["maxComputeWorkgroupStorageSize"]),
            offset_alignment=int(limits["minStorageBufferOffsetAlignment"]),
            features=features,
            # a software adapter makes loops of them, and minutes of compiling
            matrices=() if facts.get("software") else listed_matrices(facts),
        )


def listed_matrices(facts: Mapping[str, Any]) -> tuple[tuple[str, str, int, int, int], ...]:
    """Subgroup matrices that an adapter lists, as `WgslTarget.matrices` has them."""
    return tuple((str(c), str(r), int(m), int(n), int(k)) for c, r, m, n, k in facts.get("matrices", ()))
