"""nnjit's one command: `python3 serve.py` fetches what is missing, serves the page and opens it.

Also `test`, `check`, `bench`, `models`; `--help` tells. Needs Python 3.10 and nothing else.
"""

import sys
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - the message is for those who have an older one
    sys.exit("nnjit needs Python 3.10 or newer; this is Python %d.%d" % sys.version_info[:2])

sys.path.insert(0, str(Path(__file__).resolve().parent / "py"))

from nnjit.devtools.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
