"""The models that nnjit is held to: where their bytes come from, inputs they are used with, right answers.

MODELS maps a name to its Model: `path()` is the .onnx file, `feeds(i)` the seeded inputs of its i-th shape
(shape 0 is the real size), `expected(i)` what native onnxruntime answers. Files and answers stay in .cache.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tests.models import inputs, sources

Feeds = dict[str, np.ndarray]
CACHE = Path(os.environ.get("NNJIT_MODEL_CACHE", Path(__file__).parent / ".cache"))


@dataclass(frozen=True)
class Model:
    """One model. `shapes` are what `make` is called with, in the order real size, further, further."""

    name: str
    make: Callable[..., Feeds]
    shapes: tuple[tuple[int, ...], ...]
    skeleton: bool = False
    big: bool = False  # 150 MB and more: used once per run
    note: str = ""
    bytes_of: str = ""
    """The model that this one is when its numbers are quantised to bytes."""

    def path(self) -> Path:
        """The model's file; fetched, filled or quantised on the first call."""
        if self.bytes_of:
            source = MODELS[self.bytes_of]
            return sources.quantised(
                self.name, source.path(), CACHE, [self.make(1, seed=2000 + i) for i in range(2)]
            )
        return sources.skeleton(self.name, CACHE) if self.skeleton else sources.packaged(self.name)

    def feeds(self, shape: int = 0) -> Feeds:
        return self.make(*self.shapes[shape], seed=1000 + shape)

    def label(self, shape: int) -> str:
        """`roberta-base 1x384`: the name and what `make` was called with."""
        return f"{self.name} {'x'.join(map(str, self.shapes[shape]))}"

    def expected(self, shape: int = 0) -> dict[str, np.ndarray]:
        """Outputs by native onnxruntime (one thread, all its optimizations), by name."""
        path, feeds = self.path(), self.feeds(shape)
        stored = CACHE / "expected" / f"{self.name}-{shape}-{digest(path, feeds)}.npz"
        if not stored.exists():
            stored.parent.mkdir(parents=True, exist_ok=True)
            outputs = native(path, feeds)
            part = stored.with_suffix(f".{os.getpid()}.npz")
            # Numbered, as an output's name may hold what a file name inside the archive can't ("a/b:0").
            names = np.array(list(outputs))
            np.savez(part, names, *outputs.values())
            part.rename(stored)
        with np.load(stored) as archive:
            return {str(n): archive[f"arr_{k + 1}"] for k, n in enumerate(archive["arr_0"])}


def native(path: Path, feeds: Feeds) -> dict[str, np.ndarray]:
    """Runs the file on native onnxruntime."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


@cache
def file_digest(path: Path, size: int, mtime: int) -> str:
    """sha256 of a file; its size and time are there to ask again when it has changed."""
    h = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            h.update(block)
    return h.hexdigest()


def digest(path: Path, feeds: Feeds) -> str:
    """Key of a stored answer: model bytes, inputs and onnxruntime's version."""
    import onnxruntime as ort

    stat = path.stat()
    h = hashlib.sha256(f"{ort.__version__} {file_digest(path, stat.st_size, stat.st_mtime_ns)}".encode())
    for name, array in feeds.items():
        h.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return h.hexdigest()[:16]


MODELS: dict[str, Model] = {
    m.name: m
    for m in (
        Model("magika", inputs.magika, ((1,), (2,), (5,)), note="2,048 bytes fixed; only the batch varies"),
        Model(
            "silero-vad",
            inputs.silero,
            ((1, 16000), (1, 8000), (3, 16000)),
            note="512 samples at 16 kHz or 256 at 8 kHz",
        ),
        Model("minilm", inputs.minilm, ((1, 128), (1, 16), (3, 37))),
        Model("ppocr-det", inputs.text_x, ((1, 640, 640), (1, 320, 480), (2, 96, 160))),
        Model("ppocr-rec", inputs.text_x, ((1, 48, 320), (1, 48, 200), (2, 48, 96))),
        Model(
            "ppocr-cls",
            inputs.text_x,
            ((1, 48, 192), (2, 48, 192), (6, 48, 192)),
            note="48x192 fixed by its pooling",
        ),
        Model("roberta-base", inputs.encoder, ((1, 384), (1, 128), (2, 37)), skeleton=True, big=True),
        Model("bart-base", inputs.seq2seq, ((1, 384, 384), (1, 64, 16), (2, 33, 7)), skeleton=True, big=True),
        Model("gpt2", inputs.encoder, ((1, 384), (1, 32), (2, 19)), skeleton=True, big=True),
        Model("t5-small", inputs.seq2seq, ((1, 256, 256), (1, 64, 16), (2, 33, 7)), skeleton=True, big=True),
        Model(
            "mobilenet-v2",
            inputs.image_net,
            ((1,), (2,), (3,)),
            skeleton=True,
            note="224x224 fixed by the graph",
        ),
        Model(
            "resnet-50",
            inputs.image_net,
            ((1,), (2,), (3,)),
            skeleton=True,
            note="224x224 fixed by the graph",
        ),
    )
}
BYTES: dict[str, Model] = {
    f"{name}-int8": Model(f"{name}-int8", inputs.image_net, ((1,), (2,), (3,)), bytes_of=name)
    for name in ("mobilenet-v2", "resnet-50")
}
"""To be measured, not tested with: onnxruntime's quantiser makes them, and a byte rounded the other way shows."""
SMALL = [m.name for m in MODELS.values() if not m.big]
BIG = [m.name for m in MODELS.values() if m.big]
