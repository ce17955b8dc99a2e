"""WebAssembly: opcode table, encoder, typed function builder, modules, listings."""
