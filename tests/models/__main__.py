"""Fetches or fills every model (or those named) and prints its path, size and shapes.

python -m tests.models [NAME...] [--expected]
"""

from __future__ import annotations

import argparse

import numpy as np

from tests.models.catalogue import MODELS


def main() -> None:
    parser = argparse.ArgumentParser(description="make the test models")
    parser.add_argument("names", nargs="*", default=list(MODELS))
    parser.add_argument("--expected", action="store_true", help="run each shape on native onnxruntime too")
    args = parser.parse_args()
    for name in args.names:
        model = MODELS[name]
        path = model.path()
        print(f"{name}: {path.stat().st_size / 1e6:.1f} MB, {path}")
        for shape in range(len(model.shapes)) if args.expected else ():
            for output, value in model.expected(shape).items():
                spread = np.ptp(value.astype(np.float64)) if value.size else 0.0
                print(
                    f"  {model.label(shape)}: {output} {value.dtype} {list(value.shape)} range {spread:.3g}"
                )


if __name__ == "__main__":
    main()
