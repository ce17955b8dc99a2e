"""The kernel database under load: a server of its own in another process, asked by many connections at once.

    python3 serve.py bench --records                on SQLite, about half a minute
    python3 serve.py bench --records postgres       on a private PostgreSQL

Each row is a phase of SECONDS: answers a second by status, latency, and the server's memory after it. The store's
limits are set low, so that the run reaches them; the last lines say what is stored beside what may be.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
if __package__ in (None, ""):
    sys.path[:0] = [str(ROOT), str(ROOT / "py")]

from nnjit.devtools.httpd import Server  # noqa: E402
from nnjit.devtools.postgres import cluster  # noqa: E402
from nnjit.devtools.records_api import PREFIX, RecordsApi  # noqa: E402
from nnjit.devtools.records_postgres import PostgresDatabase  # noqa: E402
from nnjit.devtools.records_sql import Database  # noqa: E402
from nnjit.devtools.records_sqlite import SqliteDatabase  # noqa: E402
from nnjit.devtools.records_store import Limits, Store  # noqa: E402
from tests.bench.tables.report import write_section  # noqa: E402
from tests.support.reports import DEVICE, record  # noqa: E402

SECONDS = 3.0
CONNECTIONS = 8
MOST = 20_000  # answers of a phase
LIMITS = Limits(classes=4, specs_of_class=400, entries=1500)
FILE = Path(__file__).parent / "results" / "records.json"
JSON = {"Content-Type": "application/json"}

Send = Callable[[http.client.HTTPConnection, int], http.client.HTTPResponse]


@dataclass
class Phase:
    """What one phase found; latencies in ms, memory in MB, both of the answers that came."""

    name: str
    seconds: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    p50: float = 0.0
    p99: float = 0.0
    worst: float = 0.0
    memory: float = 0.0

    def line(self) -> str:
        total = sum(self.statuses.values())
        by = "  ".join(f"{status}: {n}" for status, n in sorted(self.statuses.items()))
        return (
            f"{self.name:44s}{total / self.seconds:8.0f}/s{self.p50:8.1f}{self.p99:8.1f}{self.worst:8.1f} ms"
            f"{self.memory:8.0f} MB   {by}"
        )


def serve(where: str) -> None:
    """The server's process: prints its URL, then answers until it is ended."""
    database: Database = PostgresDatabase(where) if "://" in where else SqliteDatabase(Path(where), print)
    api = RecordsApi(Store(database, LIMITS), forwarded=True, say=lambda text: print(text, file=sys.stderr))
    server = Server(None, records=api)  # type: ignore[arg-type]
    print(server.url, flush=True)
    server.serve_forever(0.05)


@contextlib.contextmanager
def served(where: str) -> Iterator[tuple[str, int, int]]:
    """(host, port, process) of a running server."""
    command = [sys.executable, str(Path(__file__)), "--serve", where]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'py'}{os.pathsep}{ROOT}"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    assert process.stdout is not None
    host, port = process.stdout.readline().strip().removeprefix("http://").rstrip("/").split(":")
    try:
        yield host, int(port), process.pid
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def run(name: str, host: str, port: int, pid: int, send: Send) -> Phase:
    """CONNECTIONS threads send for SECONDS, at most MOST requests."""
    statuses: Counter[int] = Counter()
    took: list[float] = []
    numbers = itertools.count()
    end = time.monotonic() + SECONDS

    def client() -> None:
        connection = http.client.HTTPConnection(host, port, timeout=30)
        while time.monotonic() < end and (number := next(numbers)) < MOST:
            start = time.perf_counter()
            try:
                answer = send(connection, number)
                answer.read()
                statuses[answer.status] += 1
            except (OSError, http.client.HTTPException):
                statuses[0] += 1
                connection.close()
            took.append(1e3 * (time.perf_counter() - start))
        connection.close()

    start = time.monotonic()
    threads = [threading.Thread(target=client) for _ in range(CONNECTIONS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    took.sort()
    at = [took[min(len(took) - 1, int(q * len(took)))] for q in (0.5, 0.99, 1.0)]
    return Phase(name, time.monotonic() - start, dict(statuses), *at, memory(pid))


def memory(pid: int) -> float:
    """Resident memory of a process, MB; 0 where /proc does not tell."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def asking(path: str, network: Callable[[int], int], **headers: str) -> Send:
    def send(connection: http.client.HTTPConnection, number: int) -> http.client.HTTPResponse:
        connection.request("GET", path, headers={"X-Forwarded-For": address(network(number)), **headers})
        return connection.getresponse()

    return send


def reporting(bodies: Callable[[int], bytes], network: Callable[[int], int]) -> Send:
    def send(connection: http.client.HTTPConnection, number: int) -> http.client.HTTPResponse:
        headers = {**JSON, "X-Forwarded-For": address(network(number))}
        connection.request("POST", PREFIX + "report", bodies(number), headers)
        return connection.getresponse()

    return send


def address(network: int) -> str:
    return f"10.{network >> 8 & 255}.{network & 255}.1"


def bodies(records_each: int, specs: int) -> Callable[[int], bytes]:
    """Reports of random schedules of `specs` specs, prepared beforehand so that making them costs no time."""
    rng = random.Random(1)
    made = []
    for _ in range(300):
        many = [
            record(rng.randrange(1, 60), rng.uniform(0.3, 1.0), rng.randrange(specs))
            for _ in range(records_each)
        ]
        made.append(json.dumps({"format": 1, "records": [r.to_json() for r in many]}).encode())
    return lambda number: made[number % len(made)]


def phases(host: str, port: int, pid: int) -> Iterator[Phase]:
    many, one = (lambda n: n % 4000), (lambda n: 9999)
    yield run("reports of 8 records, 4,000 networks", host, port, pid, reporting(bodies(8, 800), many))
    pointer = PREFIX + DEVICE
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request("GET", pointer, headers={"X-Forwarded-For": "172.16.0.1"})
    first = connection.getresponse()
    shards = json.loads(first.read())["shards"]
    etag = first.headers["ETag"]
    connection.close()
    largest = max(shards.values(), key=lambda s: int(s["bytes"]))
    shard = f"{pointer}/{largest['hash']}.jsonl"
    yield run("pointer, unchanged (304)", host, port, pid, asking(pointer, many, **{"If-None-Match": etag}))
    name = f"a shard, {largest['bytes'] / 1024:.0f} KB, gzip"
    yield run(name, host, port, pid, asking(shard, many, **{"Accept-Encoding": "gzip"}))
    yield run("one network floods with reports", host, port, pid, reporting(bodies(8, 800), one))
    yield run("one network floods with reads", host, port, pid, asking(pointer, one))
    garbage = [b"{", b"[]", b"\xff" * 1000, b"[" * 50_000, b'{"format":1,"records":[{}]}']
    yield run("garbage, 4,000 networks", host, port, pid, reporting(lambda n: garbage[n % 5], many))
    yield run("bodies too large", host, port, pid, reporting(lambda n: b" " * 300_000, many))


def stored(where: str) -> dict[str, Any]:
    """What the store holds after it all, beside its limits."""
    database: Database = PostgresDatabase(where) if "://" in where else SqliteDatabase(Path(where), print)
    counts: dict[str, Any] = Store(database).counts()
    if "://" not in where:
        counts["file MB"] = round(Path(where).stat().st_size / 1e6, 1)
    database.close()
    return {
        **counts,
        "limits": {k: v for k, v in asdict(LIMITS).items() if k in ("classes", "specs_of_class", "entries")},
    }


def table(found: dict[str, Any]) -> str:
    """results/records.json as Markdown."""
    lines: list[str] = []
    for kind, data in found.items():
        stored, limits = dict(data["stored"]), data["stored"]["limits"]
        stored.pop("limits")
        lines += [
            f"{kind}, {data['date']}, {data['machine']}:",
            "",
            "| phase | answers a second | p50 ms | p99 ms | worst ms | server's memory, MB | answers by status |",
            "|---|---|---|---|---|---|---|",
        ]
        for p in data["phases"]:
            by = ", ".join(f"{status}: {n}" for status, n in sorted(p["statuses"].items()))
            rate = sum(p["statuses"].values()) / p["seconds"]
            cells = [
                f"{rate:.0f}",
                f"{p['p50']:.1f}",
                f"{p['p99']:.1f}",
                f"{p['worst']:.0f}",
                f"{p['memory']:.0f}",
                by,
            ]
            lines.append(f"| {p['name']} | {' | '.join(cells)} |")
        said = ", ".join(f"{name} {n}" for name, n in stored.items())
        most = f"at most {limits['specs_of_class']} specs a class and {limits['entries']} entries"
        lines += ["", f"Stored in the end: {said}; {most}.", ""]
    return "\n".join(lines).rstrip()


def main(kind: str, docs: bool = False) -> int:
    """All phases on one kind of database; writes results/records.json."""
    if kind not in ("sqlite", "postgres"):
        print(f"--records takes sqlite or postgres, not {kind!r}", file=sys.stderr)
        return 2
    found = []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        where = str(Path(folder) / "records.sqlite3")
        if kind == "postgres":
            where = stack.enter_context(cluster()).url
        host, port, pid = stack.enter_context(served(where))
        print(f"{kind}: {CONNECTIONS} connections, {SECONDS:.0f} s a phase; latency p50, p99, worst")
        for phase in phases(host, port, pid):
            found.append(phase)
            print(phase.line(), flush=True)
        counts = stored(where)
    print("stored:", json.dumps(counts))
    earlier = json.loads(FILE.read_text()) if FILE.exists() else {}
    earlier[kind] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "phases": [asdict(p) for p in found],
        "stored": counts,
    }
    FILE.write_text(json.dumps(earlier, indent=1) + "\n")
    if docs:
        write_section("records", table(earlier))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", required=True)
    serve(parser.parse_args().serve)
