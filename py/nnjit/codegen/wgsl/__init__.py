"""The WGSL emitter: the same loop nests as the Wasm emitter's, printed as compute shaders."""
