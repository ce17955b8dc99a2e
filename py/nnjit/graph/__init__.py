"""The graph IR, shape inference, constant folding, canonical passes and the numpy reference."""
