import sys
from pathlib import Path
from .env import Environment
from .lock import read_lock
from .vendor import Vendor, print_line

ROOT = Path(__file__).resolve().parents[3]

def main() -> int:
    lock = read_lock(ROOT / "web" / "vendor.lock.json")
    env = Environment(ROOT / ".venv", print_line)
    v = Vendor(lock, ROOT / "web/vendor", env)
    r = v.ensure(*sys.argv[2:])
    print(r.missing, r.fetched)
    return 0
