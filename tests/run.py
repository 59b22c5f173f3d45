"""Run all tests on all cores, then the browser's tests one by one, because those measure a visitor's waiting time.

usage: python -m tests.run [options of pytest, for example -k layout]

The second part runs whatever became of the first. The last line counts both: "N passed, N failed, N skipped".
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

PARTS = (
    ("-n", "logical", "--dist", "worksteal", "--ignore", "tests/browser"),
    ("tests/browser",),
)
NOTHING_SELECTED = 5  # pytest's exit status
# Where each process has one core, more threads only wait for each other.
THREADS = {"OMP_NUM_THREADS": "1"}


def run(options: list[str], report: Path) -> tuple[int, int, int]:
    """Run pytest; return how many tests passed, failed and were skipped. A run that breaks off counts as one failed."""
    command = [sys.executable, "-m", "pytest", f"--junitxml={report}", *options]
    status = subprocess.run(command, env=THREADS | os.environ).returncode
    if not report.exists():
        return 0, 1, 0
    suite = ElementTree.parse(report).getroot()[0]
    total, failures, errors, skipped = (int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped"))
    failed = failures + errors
    return total - failed - skipped, max(failed, status not in (0, NOTHING_SELECTED)), skipped


def main(options: list[str]) -> int:
    """Run both parts, print the totals, and return the exit status: 0 if some test passed and none failed."""
    with tempfile.TemporaryDirectory() as folder:
        counts = [run([*part, *options], Path(folder) / f"{number}.xml") for number, part in enumerate(PARTS)]
    passed, failed, skipped = map(sum, zip(*counts, strict=True))
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
