"""From fused regions to kernels: specs, schedules, loop nests, WebAssembly and WGSL."""
