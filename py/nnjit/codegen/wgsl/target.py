"""WgslTarget: the WebGPU device that a shader is for. Its limits are those that every WebGPU device has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WgslTarget:
    """workgroup: invocations in a workgroup. subgroup: how many run in lockstep. invocations: how many
    keep the device busy (16,384 on a large GPU, tens on a software adapter)."""

    workgroup: int = 64
    subgroup: int = 32
    invocations: int = 16384
    max_workgroup: int = 256  # maxComputeInvocationsPerWorkgroup
    max_groups: int = 65535  # maxComputeWorkgroupsPerDimension
    max_bindings: int = 8  # maxStorageBuffersPerShaderStage
    max_binding_bytes: int = 128 << 20  # maxStorageBufferBindingSize
    features: frozenset[str] = frozenset()
