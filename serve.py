"""nnjit's one command: `python3 serve.py` fetches what is missing, serves the page and opens it.

Also `test`, `check`, `bench`, `models`; `--help` tells. Needs Python 3.10 and nothing else.
"""

import sys
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - the message is for those who have an older one
    sys.exit("nnjit needs Python 3.10 or newer; this is Python " + sys.version.split()[0])

sys.path.insert(0, str(Path(__file__).resolve().parent / "py"))

from nnjit.devtools.cli import main

if __name__ == "__main__":
    sys.exit(main())
