"""The device suite as a part of the bench: tests/device on the adapter that NNJIT_DEVICE_* name, counted.

    python3 -m tests.bench.gpu.suite FOLDER [PYTEST ARGUMENT ...]

Writes FOLDER/gpu-suite.json after each test: what passed, which failed or were left out and why, how long it took.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from tests.device.conftest import vendor


class Counted:
    """Writes down how each test ended."""

    def __init__(self, path: Path) -> None:
        self.path, self.start = path, time.monotonic()
        self.passed = 0
        self.failed: list[str] = []
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(f"{report.nodeid} ({report.when}): {report.longreprtext[-400:]}")
        elif report.skipped:
            why = report.longrepr[-1] if isinstance(report.longrepr, tuple) else ""
            self.skipped.append(f"{report.nodeid}: {why}")
        elif report.when == "call":
            self.passed += 1
        if report.when == "teardown":
            self.save()

    def save(self) -> None:
        suite = {
            "vendor": vendor(), "passed": self.passed, "failed": self.failed, "skipped": self.skipped,
            "seconds": round(time.monotonic() - self.start, 1),
        }  # fmt: skip
        self.path.write_text(json.dumps({"results": {"suite": suite}}, indent=1) + "\n")


def main(arguments: list[str]) -> int:
    folder, *rest = arguments
    given = rest if any(not a.startswith("-") for a in rest) else [*rest, "tests/device"]
    return int(
        pytest.main([*given, "-q", "-p", "no:cacheprovider"], [Counted(Path(folder, "gpu-suite.json"))])
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
