"""Compiles the Python sources of zips. Runs under the page's version of Python: CPython 3.14, or Pyodide in Node.

    python3.14 precompile.py JOBS.json      [{"source", "target", "root", "members", "zip"}, ...]

`source` is a wheel or a zip of modules, `root` where the page has its members. `zip`: the target is the same zip with
a .pyc beside each module, which imports from zips prefer. Otherwise it is one marshalled dict from a module's path
to its code (runtime/bridge_bytecode.py). It knows nothing but the standard library: nnjit is not there when it runs.
"""

from __future__ import annotations

import json
import marshal
import os
import struct
import sys
import zipfile
from importlib.util import MAGIC_NUMBER, source_hash

UNCHECKED = 1
"""Flags of a pyc that is known by its source's hash, which nobody looks at: https://peps.python.org/pep-0552/"""


def codes(archive: zipfile.ZipFile, root: str, members: list[str]) -> dict[str, bytes]:
    """Marshalled code of these members, by path in the page. What this Python cannot compile is left to the page."""
    found = {}
    for name in members:
        path = f"{root}/{name}"
        try:
            made = compile(archive.read(name), path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        found[path] = marshal.dumps(made)
    return found


def with_bytecode(archive: zipfile.ZipFile, target: str, root: str, members: list[str]) -> None:
    """The same zip with bytecode before each module's source."""
    made = codes(archive, root, members)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as out:
        for info in archive.infolist():
            data = archive.read(info)
            code = made.get(f"{root}/{info.filename}")
            if code is not None:
                head = MAGIC_NUMBER + struct.pack("<I", UNCHECKED) + source_hash(data)
                pyc = zipfile.ZipInfo(info.filename + "c", info.date_time)
                out.writestr(pyc, head + code, zipfile.ZIP_DEFLATED)
            out.writestr(info, data, zipfile.ZIP_DEFLATED)


def run(jobs: list[dict[str, object]]) -> None:
    for job in jobs:
        source, target, root = str(job["source"]), str(job["target"]), str(job["root"])
        members = [str(name) for name in job["members"]]  # type: ignore[attr-defined]
        part = f"{target}.{os.getpid()}.part"
        with zipfile.ZipFile(source) as archive:
            if job["zip"]:
                with_bytecode(archive, part, root, members)
            else:
                found = {"": MAGIC_NUMBER, **codes(archive, root, members)}
                with open(part, "wb") as file:
                    file.write(marshal.dumps(found))
        os.replace(part, target)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as given:
        run(json.load(given))
