"""What is measured: operators, layers and moves, each a tiny model with its feeds and its arithmetic."""
