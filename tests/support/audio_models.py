"""A recogniser of speech as wav2vec 2 is built: samples through seven strided convolutions, positions by a grouped
convolution, transformer blocks, letters. `recogniser(size)` -> bytes; its weights are random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.fuzz.families import parts as p
from tests.fuzz.families.audio import conv1
from tests.fuzz.families.net import Net

STEPS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
"""Taps and stride of each convolution: 320 samples a frame."""


@dataclass(frozen=True)
class Size:
    channels: int = 256
    hidden: int = 384
    heads: int = 6
    layers: int = 4
    taps: int = 128
    letters: int = 32


SMALL = Size(channels=16, hidden=24, heads=2, layers=1, taps=8)


def recogniser(size: Size) -> bytes:
    n = Net(17)
    y = n.unsqueeze(n.feed("input_values", (1, 4000), ["batch", "samples"]), 1)
    before = 1
    for i, (k, s) in enumerate(STEPS):
        y = conv1(n, y, before, size.channels, k, s, pads=[0, 0], bias=False)
        if i == 0:  # each channel over time
            shape = n.Shape(y)
            one, zero = (
                n.hold(np.ones(size.channels, np.float32)),
                n.hold(np.zeros(size.channels, np.float32)),
            )
            y = n.Reshape(n.InstanceNormalization(n.Reshape(y, [0, size.channels, -1]), one, zero), shape)
            y = n.Add(
                n.Mul(y, n.weight(size.channels, 1, middle=1, scale=0.2)),
                n.weight(size.channels, 1, scale=0.1),
            )
        y, before = p.gelu(n, y), size.channels
    y = n.Transpose(y, perm=[0, 2, 1])
    y = p.linear(n, p.layer_norm(n, y, size.channels), size.channels, size.hidden)
    z = n.Transpose(y, perm=[0, 2, 1])
    z = conv1(
        n,
        z,
        size.hidden,
        size.hidden,
        size.taps,
        group=16 if size.hidden % 16 == 0 else 4,
        pads=[size.taps // 2] * 2,
    )
    z = p.gelu(n, n.Slice(z, [0], [-1], [2]))
    y = p.layer_norm(n, n.Add(y, n.Transpose(z, perm=[0, 2, 1])), size.hidden)
    for _ in range(size.layers):
        y = p.layer_norm(n, n.Add(y, p.self_attention(n, y, size.hidden, size.heads)), size.hidden)
        y = p.layer_norm(n, n.Add(y, p.mlp(n, y, size.hidden, 4 * size.hidden)), size.hidden)
    n.output(p.linear(n, y, size.hidden, size.letters))
    return bytes(n.model().SerializeToString())
