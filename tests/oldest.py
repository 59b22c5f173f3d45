"""A pytest plugin: `-p tests.oldest` runs tests with the oldest transformers of the range in requirements.txt.

`make test` installs it beside the newest, in a folder of the environment.
"""

import sys
from pathlib import Path

FOLDER = Path(sys.prefix) / "oldest"

if not (FOLDER / "transformers").is_dir():
    raise ImportError(f"{FOLDER} lacks the oldest transformers; `make test` installs it")
sys.path.insert(0, str(FOLDER))
