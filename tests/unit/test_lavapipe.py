"""The tool that makes a browser with lavapipe as its adapter: what it looks for, what it writes. No browser starts."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.device import lavapipe
from tests.device.lavapipe import Missing, TooOld

LIB = "usr/lib64"


def system(root: Path, mesa: str = "26.1.6") -> Path:
    """A root with empty files where a system has Chromium, Mesa, the loader and EGL; Chromium's folder in it."""
    chromium = root / "opt/chromium"
    chromium.mkdir(parents=True)
    for name in ("chrome", "resources.pak", lavapipe.LOADED):
        (chromium / name).write_text(name)
    (root / LIB).mkdir(parents=True)
    for name in lavapipe.NEEDED:
        (root / LIB / name).write_bytes(f"\0Mesa {mesa}-1\0".encode() if "lvp" in name else b"")
    return Path("/opt/chromium")


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("usr/lib64/libvulkan_lvp.so", "mesa-vulkan-drivers"), ("usr/lib64/libvulkan.so.1", "libvulkan1"),
        ("usr/lib64/libEGL.so.1", "libegl1"), ("opt/chromium/chrome", "--chromium"),
        (f"opt/chromium/{lavapipe.LOADED}", "without SwiftShader"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(tmp_path: Path, gone: str, told: str) -> None:
    chromium = system(tmp_path)
    assert lavapipe.found(tmp_path, chromium).executable == "chrome"
    (tmp_path / gone).unlink()
    with pytest.raises(Missing, match=told):
        lavapipe.found(tmp_path, chromium)


def test_an_old_mesa_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TooOld, match="Mesa 25; 26"):
        lavapipe.found(tmp_path, system(tmp_path, "25.0.7"))
    assert lavapipe.mesa_version(b"no version") == 0
    with pytest.raises(Missing, match="C compiler"):
        lavapipe.compiler(["no-such-compiler"])


def test_the_folder(tmp_path: Path) -> None:
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler here")
    made = lavapipe.found(tmp_path, system(tmp_path))
    into = Path("/home/lavapipe")
    for _ in range(2):  # once more over what is there
        start = lavapipe.make(made, into, lavapipe.compiler())
    folder = tmp_path / "home/lavapipe"
    assert start == folder / "start" and start.stat().st_mode & 0o111
    assert not (folder / "chrome").is_symlink() and (folder / "chrome").read_text() == "chrome"
    assert (folder / "resources.pak").readlink() == Path("/opt/chromium/resources.pak")
    assert (folder / lavapipe.LOADED).readlink() == Path(f"/{LIB}/libvulkan.so.1")
    described = json.loads((folder / "lavapipe.json").read_text())["ICD"]
    driver = tmp_path / described["library_path"].lstrip("/")
    assert f"/{LIB}/libvulkan_lvp.so".encode() in driver.read_bytes()
    assert start.read_text().startswith(f"#!/bin/sh\nexec chroot '{tmp_path}' /usr/bin/env VK_ICD_FILENAMES=")
    assert subprocess.run(["sh", "-n", str(start)], check=False).returncode == 0
    assert lavapipe.variables(start)[0] == f"NNJIT_DEVICE_BROWSER={start}"
