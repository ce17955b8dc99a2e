"""Mesa's lavapipe as Chromium's WebGPU adapter: makes a folder with such a browser and prints the suite's variables.

    python -m tests.device.lavapipe --into ~/chromium-lavapipe [--chromium /usr/lib/chromium] [--root /srv/debian]

Chromium takes a processor for an adapter only if it says it is SwiftShader, and loads it from beside its executable. So
the folder has Chromium's files as links, a copy of the executable (it looks for its files where it lies itself), the
system's Vulkan loader under the name of SwiftShader's library, and a driver that is lavapipe under SwiftShader's ids
(lavapipe.c). --root: what is looked for, and the folder itself, lie in another system's root, which the start script
enters by chroot; the C compiler is this system's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("lavapipe.c")
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib")
NEEDED = {
    "libvulkan_lvp.so": "Mesa's lavapipe (Debian: mesa-vulkan-drivers)",
    "libvulkan.so.1": "the Vulkan loader (Debian: libvulkan1)",
    "libEGL.so.1": "EGL (Debian: libegl1)",
}
EXECUTABLES = ("chromium-headless-shell", "chromium", "chrome")
LOADED = "libvk_swiftshader.so"
MESA = 26
"""The first version whose lavapipe has what Chromium's WebGPU asks of f16 and subgroup matrices."""
FLAGS = (
    "--no-sandbox --enable-unsafe-webgpu --ignore-gpu-blocklist --use-vulkan=native --disable-vulkan-surface"
    " --enable-features=Vulkan,WebGPUDeveloperFeatures --use-gl=angle --use-angle=gl-egl --ozone-platform=headless"
    " --disable-dev-shm-usage --enable-dawn-features=allow_unsafe_apis"
).split()


class Missing(Exception):
    """Something that the adapter needs is not there; says what, where it was looked for and which package has it."""


class TooOld(Exception):
    """Mesa is there, and lacks what the adapter is for."""


@dataclass(frozen=True)
class System:
    """Where things lie, as the started browser sees them: without `root`."""

    root: Path
    chromium: Path
    executable: str
    libraries: dict[str, Path]

    def outside(self, path: Path) -> Path:
        return self.root / path.relative_to("/")


def found(root: Path, chromium: Path) -> System:
    """What the adapter is made of; raises Missing or TooOld."""
    folder = root / chromium.relative_to("/")
    names = [n for n in EXECUTABLES if (folder / n).is_file()]
    if not names:
        raise Missing(
            f"Chromium: none of {', '.join(EXECUTABLES)} is in {folder}; name its folder by --chromium"
        )
    if not (folder / LOADED).exists():
        raise Missing(
            f"{LOADED} in {folder}: this Chromium was built without SwiftShader, and looks for no adapter there"
        )
    libraries = {}
    for name, what in NEEDED.items():
        places = [Path("/") / place / name for place in LIBRARIES]
        at = next((p for p in places if (root / p.relative_to("/")).exists()), None)
        if at is None:
            raise Missing(f"{what}: no {name} in {', '.join(str(root / p) for p in LIBRARIES)}")
        libraries[name] = at
    system = System(root, chromium, names[0], libraries)
    driver = system.outside(libraries["libvulkan_lvp.so"])
    version = mesa_version(driver.read_bytes())
    if version < MESA:
        raise TooOld(f"{driver} is of Mesa {version or 'of no known version'}; {MESA} or later is needed")
    return system


def mesa_version(library: bytes) -> int:
    """The major version that a driver's file tells; 0 if it tells none."""
    versions = [int(v) for v in re.findall(rb"Mesa (\d{2})\.\d", library)]
    return max(versions, default=0)


def manifest(library: Path) -> str:
    """The Vulkan loader's description of a driver."""
    return json.dumps(
        {"file_format_version": "1.0.1", "ICD": {"library_path": str(library), "api_version": "1.4.0"}}
    )


def script(system: System, into: Path) -> str:
    """What starts the browser. Its own flags come last: of two it takes the later."""
    enter = f"chroot '{system.root}' " if system.root != Path("/") else ""
    command = f"'{into / system.executable}' \"$@\" {' '.join(FLAGS)}"
    return f"#!/bin/sh\nexec {enter}/usr/bin/env VK_ICD_FILENAMES='{into / 'lavapipe.json'}' {command}\n"


def variables(start: Path) -> list[str]:
    """shader-f16: if SwiftShader itself was loaded, the suite fails."""
    return [f"NNJIT_DEVICE_BROWSER={start}", "NNJIT_DEVICE_FLAGS=", "NNJIT_DEVICE_VENDOR=shader-f16"]


def compiler(given: Iterable[str] = ("cc", "gcc", "clang")) -> str:
    for name in given:
        if shutil.which(name):
            return name
    raise Missing("a C compiler: none of cc, gcc, clang is on the PATH (Debian: gcc)")


def make(system: System, into: Path, cc: str) -> Path:
    """The folder `into`, seen from inside; returns its start script, seen from outside. What is there is kept."""
    folder = system.outside(into)
    folder.mkdir(parents=True, exist_ok=True)
    for source in system.outside(system.chromium).iterdir():
        to = folder / source.name
        if source.name == LOADED or os.path.lexists(to):
            continue
        if source.name == system.executable:
            shutil.copy2(source, to)
        else:
            to.symlink_to(system.chromium / source.name)
    loader = folder / LOADED
    if not os.path.lexists(loader):
        loader.symlink_to(system.libraries["libvulkan.so.1"])
    driver = folder / "liblavapipe_renamed.so"
    name = f'-DLAVAPIPE="{system.libraries["libvulkan_lvp.so"]}"'
    built = subprocess.run(
        [cc, "-shared", "-fPIC", "-O1", name, str(SOURCE), "-o", str(driver), "-ldl"],
        capture_output=True,
        text=True,
    )
    if built.returncode:
        raise Missing(f"{cc} could not build {SOURCE}: {built.stderr.strip()[:400]}")
    (folder / "lavapipe.json").write_text(manifest(into / driver.name))
    start = folder / "start"
    start.write_text(script(system, into))
    start.chmod(0o755)
    return start


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.device.lavapipe", description=__doc__)
    parser.add_argument("--into", type=Path, required=True, help="the folder to make, from inside the root")
    parser.add_argument(
        "--chromium", type=Path, default=Path("/usr/lib/chromium"), help="the folder of Chromium's executable"
    )
    parser.add_argument(
        "--root", type=Path, default=Path("/"), help="of the system that has Chromium and Mesa"
    )
    given = parser.parse_args()
    try:
        system = found(given.root.absolute(), given.chromium)
        start = make(
            system, Path("/") / given.into if given.root != Path("/") else given.into.absolute(), compiler()
        )
    except (Missing, TooOld) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print("\n".join(variables(start)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
