"""Run all tests: the browser's beside all others, then alone the one that measures how long a visitor waits.

usage: python -m tests.run [options of pytest, for example -k layout]

The browser leaves much of two cores idle. The other tests use that time, and give way where both want a core.
Each part runs whatever became of the others. A browser test that fails runs once more after all others have ended.
The last line counts all, "N passed, N failed, N skipped", and names the tests that passed only when run again.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
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
BROWSER = "tests/browser/"
MOST_AGAIN = 5  # failures that are run again; more are no noise of the machine, and each may wait a minute in vain
NOTHING_SELECTED = 5  # pytest's exit status
NAMES_FILES = ("-o", "junit_family=xunit1")  # this family of reports has the file of each test
# Where each process has one core, more threads only wait for each other.
THREADS = {"OMP_NUM_THREADS": "1"}
GIVES_WAY = ("nice", "-n", "5")  # a third of what the last part gets; with less, tests would reach time limits


@dataclass(frozen=True)
class Outcome:
    """What became of the tests of one run of pytest."""

    passed: int
    failed: int
    skipped: int
    failures: tuple[str, ...] = ()  # as pytest names them on its command line

    @classmethod
    def read(cls, report: Path, status: int) -> "Outcome":
        """Read a report of pytest. A run that breaks off, with exit status `status`, counts as one failed test."""
        if not report.exists():
            return cls(0, 1, 0)
        tests: dict[str, set[str]] = {}  # a test whose teardown fails too stands in the report twice
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            name = f"{case.get('file', '')}::{case.get('name')}"
            tests.setdefault(name, set()).update(result.tag for result in case)
        failures = tuple(name for name, results in tests.items() if results & {"failure", "error"})
        skipped = sum("skipped" in results for results in tests.values())
        failed = max(len(failures), status not in (0, NOTHING_SELECTED))
        return cls(len(tests) - len(failures) - skipped, failed, skipped, failures)


def run(parts: list[list[str]], folder: Path) -> list[Outcome]:
    """Run pytest at the same time with the options of each part; return the outcome of each.

    The first part prints as it goes, the others after it.
    """
    reports, logs = ([folder / f"{number}.{kind}" for number in range(len(parts))] for kind in ("xml", "log"))
    processes = []
    for number, (options, report, log) in enumerate(zip(parts, reports, logs, strict=True)):
        way = () if number == len(parts) - 1 else GIVES_WAY
        command = [*way, sys.executable, "-m", "pytest", f"--junitxml={report}", *NAMES_FILES, *options]
        with log.open("wb") as file:
            output = file if number else None
            processes.append(subprocess.Popen(command, env=THREADS | os.environ, stdout=output, stderr=output))
    statuses = []
    for process, log in zip(processes, logs, strict=True):
        statuses.append(process.wait())
        print(log.read_text(encoding="utf-8", errors="replace"), end="", flush=True)
    return [Outcome.read(report, status) for report, status in zip(reports, statuses, strict=True)]


def passed_again(outcomes: list[Outcome]) -> list[str]:
    """Run the browser tests that failed once more, alone; return those that pass now."""
    failures = [name for outcome in outcomes for name in outcome.failures if name.startswith(BROWSER)]
    if not 0 < len(failures) <= MOST_AGAIN:
        return []
    print(f"{len(failures)} browser tests failed and are run again", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        (outcome,) = run([failures], Path(folder))
    # A run that breaks off, or passes fewer tests than it was given, proves nothing.
    complete = outcome.passed + len(outcome.failures) == len(failures)
    return [name for name in failures if complete and name not in outcome.failures]


def main(options: list[str]) -> int:
    """Run all stages, print the totals, and return the exit status: 0 if some test passed and none failed."""
    outcomes: list[Outcome] = []
    for stage in STAGES:
        with tempfile.TemporaryDirectory() as folder:
            outcomes += run([[*part, *options] for part in stage], Path(folder))
    again = passed_again(outcomes)
    passed = sum(outcome.passed for outcome in outcomes) + len(again)
    failed = sum(outcome.failed for outcome in outcomes) - len(again)
    line = f"{passed} passed, {failed} failed, {sum(outcome.skipped for outcome in outcomes)} skipped"
    if again:
        line += f"; {len(again)} browser test{'s' * (len(again) > 1)} passed only when run again: {', '.join(again)}"
    print(line, flush=True)
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
