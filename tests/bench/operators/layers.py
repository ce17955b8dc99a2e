"""Convolutions to measure: every distinct layer of the catalogue's image models, and some that they lack.

`LAYERS` maps a name such as `conv 1x64x56x56 64 3x3 s1` (input shape, output channels, window, stride) to what
`ops` builds a model from. Layers on single pixels (squeeze and excitation) are left out: they last microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

TABLE = """
resnet-50     3x224x224-64 7x7/2+3  64x56x56-64 1x1  64x56x56-64 3x3+1  64x56x56-256 1x1  256x56x56-64 1x1
resnet-50     256x56x56-128 1x1  128x56x56-128 3x3/2+1  128x28x28-512 1x1  256x56x56-512 1x1/2  512x28x28-128 1x1
resnet-50     128x28x28-128 3x3+1  512x28x28-256 1x1  256x28x28-256 3x3/2+1  256x14x14-1024 1x1  512x28x28-1024 1x1/2
resnet-50     1024x14x14-256 1x1  256x14x14-256 3x3+1  1024x14x14-512 1x1  512x14x14-512 3x3/2+1  512x7x7-2048 1x1
resnet-50     1024x14x14-2048 1x1/2  2048x7x7-512 1x1  512x7x7-512 3x3+1
mobilenet-v2  3x224x224-32 3x3/2+0:1  32x112x112-dw 3x3+1  32x112x112-16 1x1  16x112x112-96 1x1
mobilenet-v2  96x112x112-dw 3x3/2+0:1  96x56x56-24 1x1  24x56x56-144 1x1  144x56x56-dw 3x3+1  144x56x56-24 1x1
mobilenet-v2  144x56x56-dw 3x3/2+0:1  144x28x28-32 1x1  32x28x28-192 1x1  192x28x28-dw 3x3+1  192x28x28-32 1x1
mobilenet-v2  192x28x28-dw 3x3/2+0:1  192x14x14-64 1x1  64x14x14-384 1x1  384x14x14-dw 3x3+1  384x14x14-64 1x1
mobilenet-v2  384x14x14-96 1x1  96x14x14-576 1x1  576x14x14-dw 3x3+1  576x14x14-96 1x1  576x14x14-dw 3x3/2+0:1
mobilenet-v2  576x7x7-160 1x1  160x7x7-960 1x1  960x7x7-dw 3x3+1  960x7x7-160 1x1  960x7x7-320 1x1  320x7x7-1280 1x1
ppocr-det     3x640x640-16 3x3/2+1  16x320x320-dw 3x3+1  16x320x320-32 1x1  32x320x320-dw 3x3/2+1  32x160x160-48 1x1
ppocr-det     48x160x160-dw 3x3+1  48x160x160-48 1x1  48x160x160-dw 3x3/2+1  48x80x80-96 1x1  96x80x80-dw 3x3+1
ppocr-det     96x80x80-96 1x1  96x80x80-dw 3x3/2+1  96x40x40-192 1x1  192x40x40-dw 5x5+2  192x40x40-192 1x1
ppocr-det     192x40x40-dw 5x5/2+2  192x20x20-384 1x1  384x20x20-dw 5x5+2  384x20x20-384 1x1  48x160x160-12 1x1
ppocr-det     96x80x80-18 1x1  192x40x40-42 1x1  384x20x20-360 1x1  360x20x20-96 1x1  42x40x40-96 1x1
ppocr-det     18x80x80-96 1x1  12x160x160-96 1x1  96x20x20-24 3x3+1  96x40x40-24 3x3+1  96x80x80-24 3x3+1
ppocr-det     96x160x160-24 3x3+1
others        120x28x28-dw 5x5+2  72x56x56-dw 5x5/2+2  256x28x28-256 3x3*2+2  256x14x14-dw 3x3*2+2  64x28x28-64 5x5+2
others        64x1x4096-64 1x3+0:1:0:1  128x28x28-128 3x3+1%32
"""
"""Model, then channels x height x width - output channels (dw: depthwise), window /stride *dilation +pads %groups."""


@dataclass(frozen=True)
class Layer:
    channels: int
    height: int
    width: int
    out: int
    window: tuple[int, int]
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def name(self) -> str:
        """`conv 1x64x56x56 64 3x3 s1`, and d2, dw or g32 where there is such a thing."""
        parts = [f"conv 1x{self.channels}x{self.height}x{self.width} {self.out}"]
        parts += ["x".join(map(str, self.window)), f"s{self.stride}"]
        parts += [f"d{self.dilation}"] if self.dilation > 1 else []
        if self.groups > 1:
            parts.append("dw" if self.groups == self.channels else f"g{self.groups}")
        return " ".join(parts)


def parse(image: str, window: str) -> Layer:
    """`64x56x56-64`, `3x3/2+1` as in TABLE."""
    shape, _, out = image.partition("-")
    channels, height, width = map(int, shape.split("x"))
    window, _, groups = window.partition("%")
    window, _, pads = window.partition("+")
    window, _, dilation = window.partition("*")
    window, _, stride = window.partition("/")
    h, w = map(int, window.split("x"))
    around = tuple(map(int, pads.split(":"))) if pads else (0,)
    # one number for all sides, two for before and after, or all four
    sides = (
        around * 4
        if len(around) == 1
        else (around[0],) * 2 + (around[1],) * 2
        if len(around) == 2
        else around
    )
    depthwise = out == "dw"
    return Layer(
        channels, height, width, channels if depthwise else int(out), (h, w), int(stride or 1), int(dilation or 1),
        channels if depthwise else int(groups or 1), (sides[0], sides[1], sides[2], sides[3]),
    )  # fmt: skip


def _rows() -> list[Layer]:
    out = []
    for line in TABLE.strip().splitlines():
        words = line.split()[1:]
        out += [parse(image, window) for image, window in zip(words[::2], words[1::2], strict=True)]
    return out


LAYERS = {layer.name: layer for layer in _rows()}
