"""Run all tests: the browser's beside all others, then alone the one that measures how long a visitor waits.

usage: python -m tests.run [options of pytest, for example -k layout]

The browser leaves much of two cores idle. The other tests use that time, and give way where both want a core.
Each part runs whatever became of the others. The last line counts all: "N passed, N failed, N skipped".
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

MEASURES = "tests/browser/test_waiting_time.py"
OLDEST = "tests.oldest"  # a plugin: see there
# The parts of a stage run at the same time; all but the last give way to the last.
STAGES = (
    (
        ("-n", "logical", "--dist", "worksteal", "--ignore", "tests/browser"),
        ("tests/model/families/test_engine.py", "-n0", "-p", OLDEST),
        ("tests/browser", "--ignore", MEASURES),
    ),
    ((MEASURES,),),
)
NOTHING_SELECTED = 5  # pytest's exit status
# Where each process has one core, more threads only wait for each other.
THREADS = {"OMP_NUM_THREADS": "1"}
GIVES_WAY = ("nice", "-n", "5")  # a third of what the last part gets; with less, tests would reach time limits


def totals(report: Path, status: int) -> tuple[int, int, int]:
    """Return how many tests passed, failed and were skipped. A run that breaks off counts as one failed."""
    if not report.exists():
        return 0, 1, 0
    suite = ElementTree.parse(report).getroot()[0]
    total, failures, errors, skipped = (int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped"))
    failed = failures + errors
    return total - failed - skipped, max(failed, status not in (0, NOTHING_SELECTED)), skipped


def run(parts: list[list[str]], folder: Path) -> list[tuple[int, int, int]]:
    """Run pytest at the same time with the options of each part; return the totals of each.

    The first part prints as it goes, the others after it.
    """
    reports, logs = ([folder / f"{number}.{kind}" for number in range(len(parts))] for kind in ("xml", "log"))
    processes = []
    for number, (options, report, log) in enumerate(zip(parts, reports, logs, strict=True)):
        way = () if number == len(parts) - 1 else GIVES_WAY
        command = [*way, sys.executable, "-m", "pytest", f"--junitxml={report}", *options]
        with log.open("wb") as file:
            output = file if number else None
            processes.append(subprocess.Popen(command, env=THREADS | os.environ, stdout=output, stderr=output))
    statuses = []
    for process, log in zip(processes, logs, strict=True):
        statuses.append(process.wait())
        print(log.read_text(encoding="utf-8", errors="replace"), end="", flush=True)
    return [totals(report, status) for report, status in zip(reports, statuses, strict=True)]


def main(options: list[str]) -> int:
    """Run all stages, print the totals, and return the exit status: 0 if some test passed and none failed."""
    counts = []
    for stage in STAGES:
        with tempfile.TemporaryDirectory() as folder:
            counts += run([[*part, *options] for part in stage], Path(folder))
    passed, failed, skipped = map(sum, zip(*counts, strict=True))
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
