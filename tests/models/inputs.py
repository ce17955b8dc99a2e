"""Seeded inputs that look like what the models meet in use: text, tokens with padding, pictures, speech.

Each function takes the sizes of one shape and a seed and returns the feeds, name -> array.
"""

from __future__ import annotations

import numpy as np

Feeds = dict[str, np.ndarray]
# Seven rows of five dots a letter, the leftmost dot the highest bit.
GLYPHS = {
    "0": (14, 17, 19, 21, 25, 17, 14),
    "1": (4, 12, 4, 4, 4, 4, 14),
    "2": (14, 17, 1, 2, 4, 8, 31),
    "3": (31, 2, 4, 2, 1, 17, 14),
    "4": (2, 6, 10, 18, 31, 2, 2),
    "7": (31, 1, 2, 4, 8, 8, 8),
    "8": (14, 17, 17, 14, 17, 17, 14),
    "A": (14, 17, 17, 31, 17, 17, 17),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "H": (17, 17, 17, 31, 17, 17, 17),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "T": (31, 4, 4, 4, 4, 4, 4),
    " ": (0,) * 7,
}
WORDS = (
    b"def return import class for while if else in not and or self None True len range str int print".split()
)


def magika(batch: int, seed: int) -> Feeds:
    """What Magika reads of a file: its first 1,024 and last 1,024 bytes, 256 where the file is shorter."""
    rng = np.random.default_rng(seed)
    rows = np.full((batch, 2048), 256, np.int32)
    for row in rows:
        text = b" ".join(
            WORDS[i] + (b"\n    " if i % 5 == 0 else b"") for i in rng.integers(0, len(WORDS), 400)
        )
        length = int(rng.integers(300, 1025))
        row[:length] = np.frombuffer(text[:length], np.uint8)
        row[2048 - length :] = np.frombuffer(text[-length:], np.uint8)
    return {"bytes": rows}


def silero(batch: int, rate: int, seed: int) -> Feeds:
    """A chunk of voiced sound (64 or 32 samples of context, 512 or 256 new) and a state in mid-stream."""
    rng = np.random.default_rng(seed)
    length = 576 if rate == 16000 else 288
    t = np.arange(length) / rate
    pitch = rng.uniform(90, 220, (batch, 1))
    sound = sum(np.sin(2 * np.pi * pitch * k * t + rng.uniform(0, 6)) / k for k in range(1, 12))
    sound = 0.15 * sound + 0.01 * rng.standard_normal((batch, length))
    return {
        "input": np.asarray(sound, np.float32),
        "sr": np.array(rate, np.int64),
        "state": (0.3 * rng.standard_normal((2, batch, 128))).astype(np.float32),
    }


def mask(batch: int, length: int) -> np.ndarray:
    """Attention masks: the first row full, each further one a quarter shorter."""
    keep = [max(1, length - (length * row) // 4) for row in range(batch)]
    return (np.arange(length)[None, :] < np.array(keep)[:, None]).astype(np.int64)


def encoder(batch: int, length: int, seed: int) -> Feeds:
    """Token ids below 30,000 (valid in every vocabulary here), padded with RoBERTa's 1 where masked."""
    rng = np.random.default_rng(seed)
    attention = mask(batch, length)
    ids = np.where(attention == 1, rng.integers(3, 30000, (batch, length)), 1)
    return {"input_ids": ids.astype(np.int64), "attention_mask": attention}


def seq2seq(batch: int, length: int, target: int, seed: int) -> Feeds:
    rng = np.random.default_rng(seed + 7)
    decoder = rng.integers(3, 30000, (batch, target)).astype(np.int64)
    return {**encoder(batch, length, seed), "decoder_input_ids": decoder}


def minilm(batch: int, length: int, seed: int) -> Feeds:
    feeds = encoder(batch, length, seed)
    return {**feeds, "token_type_ids": np.zeros((batch, length), np.int64)}


def picture(batch: int, height: int, width: int, seed: int) -> np.ndarray:
    """Smooth colours, a few bright boxes with sharp edges, a little noise: batch x 3 x h x w, about -2..2.

    White noise would average out in the first pooling and make all pictures look the same to a network.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / np.float64(max(height, width))
    out = 0.05 * rng.standard_normal((batch, 3, height, width))
    for image in out:
        for channel in image:
            for _ in range(4):
                fy, fx, phase = rng.uniform(-5, 5), rng.uniform(-5, 5), rng.uniform(0, 6)
                channel += 0.4 * np.sin(2 * np.pi * (fy * y + fx * x) + phase)
        for _ in range(12):
            top, left = rng.integers(0, height - 8), rng.integers(0, width - 4)
            image[:, top : top + height // 6, left : left + 3] = rng.uniform(-2, 2)
    return out.astype(np.float32)


def writing(batch: int, height: int, width: int, seed: int) -> np.ndarray:
    """Dark lines of text on a light, uneven ground, scaled to -1..1: batch x 3 x h x w.

    Without text a detector answers 0 everywhere, and any wrong kernel would agree with it.
    """
    rng = np.random.default_rng(seed)
    shade = 1.0 - 0.15 * np.abs(picture(batch, height, width, seed))
    letters = list(GLYPHS)
    for image in shade:
        top = 4 + int(rng.integers(0, 4))
        while top + 21 <= height:
            dot = int(rng.integers(3, 5)) if height >= top + 28 else 3
            left = int(rng.integers(4, 16))
            while left + 5 * dot <= width - 4:
                glyph = GLYPHS[letters[int(rng.integers(0, len(letters)))]]
                dots = np.array([[row >> (4 - bit) & 1 for bit in range(5)] for row in glyph])
                ink = np.kron(dots, np.ones((dot, dot)))
                region = image[:, top : top + 7 * dot, left : left + 5 * dot]
                region -= (region + 0.9) * ink
                left += 6 * dot
            top += 7 * dot + int(rng.integers(10, 40))
    return shade.astype(np.float32)


def text_x(batch: int, height: int, width: int, seed: int) -> Feeds:
    return {"x": writing(batch, height, width, seed)}


def image_net(batch: int, seed: int) -> Feeds:
    return {"pixel_values": picture(batch, 224, 224, seed)}
