"""The totals over two runs of pytest, on two small files of tests."""

from pathlib import Path

import pytest

from tests import run

PASSES = "def test_passes(): pass\n"
FAILS = "def test_fails(): assert False\n"
SKIPS = "import pytest\ndef test_skips(): pytest.skip()\n"
ERRS = "import pytest\n@pytest.fixture\ndef broken(): raise OSError\ndef test_errs(broken): pass\n"


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return pytest's options for a run without plugins and without the settings of this project, in its own folder."""
    (tmp_path / "none.ini").write_text("")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.chdir(tmp_path)
    return ["-c", "none.ini", "-p", "no:cacheprovider"]


@pytest.mark.parametrize(
    ("first", "second", "at_once", "last_line", "status"),
    [
        (PASSES + SKIPS, PASSES, True, "2 passed, 0 failed, 1 skipped", 0),
        (PASSES + FAILS, PASSES, True, "2 passed, 1 failed, 0 skipped", 1),
        (PASSES, FAILS + ERRS, True, "1 passed, 2 failed, 0 skipped", 1),
        ("import nothing_of_this_name", PASSES, False, "1 passed, 1 failed, 0 skipped", 1),
        (SKIPS, "", False, "0 passed, 0 failed, 1 skipped", 1),
    ],
    ids=["all pass", "first fails", "second fails", "first cannot be collected", "nothing passes"],
)
def test_totals_and_status(
    quiet: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    first: str,
    second: str,
    at_once: bool,
    last_line: str,
    status: int,
) -> None:
    paths = [Path("test_first.py"), Path("test_second.py")]
    for path, content in zip(paths, (first, second), strict=True):
        path.write_text(content)
    parts = [[str(path)] for path in paths]
    monkeypatch.setattr(run, "STAGES", [parts] if at_once else [[part] for part in parts])
    assert run.main(quiet) == status
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1] == last_line
    assert sum("===" in line and " in " in line for line in lines) == 2  # both parts print their end


# A test that fails at its first run, as on a busy machine, and passes at its second. Its teardown fails with it.
ONCE = """
import pathlib, pytest
@pytest.fixture
def noise(request):
    mark = pathlib.Path(request.node.name)
    busy = not mark.exists()
    mark.touch()
    yield busy
    assert not busy
@pytest.mark.parametrize("number", range({}))
def test_once(noise, number): assert not noise
"""


@pytest.mark.parametrize(
    ("browser", "other", "last_line", "status"),
    [
        (
            PASSES + ONCE.format(1),
            PASSES,
            "3 passed, 0 failed, 0 skipped; 1 browser test passed only when run again: "
            "tests/browser/test_b.py::test_once[0]",
            0,
        ),
        (
            FAILS + ONCE.format(2),
            PASSES,
            "3 passed, 1 failed, 0 skipped; 2 browser tests passed only when run again: "
            "tests/browser/test_b.py::test_once[0], tests/browser/test_b.py::test_once[1]",
            1,
        ),
        (PASSES, ONCE.format(1), "1 passed, 1 failed, 0 skipped", 1),
        (PASSES + ONCE.format(6), PASSES, "2 passed, 6 failed, 0 skipped", 1),
        ("import nothing_of_this_name", PASSES, "1 passed, 1 failed, 0 skipped", 1),
    ],
    ids=["passes again", "one fails again", "no browser test", "too many", "cannot be collected"],
)
def test_a_browser_test_that_fails_runs_once_more(
    quiet: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    browser: str,
    other: str,
    last_line: str,
    status: int,
) -> None:
    paths = [Path("tests/browser/test_b.py"), Path("tests/test_other.py")]
    paths[0].parent.mkdir(parents=True)
    for path, content in zip(paths, (browser, other), strict=True):
        path.write_text(content)
    monkeypatch.setattr(run, "STAGES", [[[*quiet, str(path)] for path in paths]])
    monkeypatch.setattr(run, "NAMES_FILES", (*run.NAMES_FILES, *quiet))
    assert run.main([]) == status
    assert capfd.readouterr().out.splitlines()[-1] == last_line


def test_a_run_that_cannot_start_counts_as_failed(tmp_path: Path) -> None:
    assert run.run([["--no-such-option"]], tmp_path) == [run.Outcome(0, 1, 0)]
