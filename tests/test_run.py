"""The totals over two runs of pytest, on two small files of tests."""

from pathlib import Path

import pytest

from tests import run

PASSES = "def test_passes(): pass\n"
FAILS = "def test_fails(): assert False\n"
SKIPS = "import pytest\ndef test_skips(): pytest.skip()\n"
ERRS = "import pytest\n@pytest.fixture\ndef broken(): raise OSError\ndef test_errs(broken): pass\n"


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
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    first: str,
    second: str,
    at_once: bool,
    last_line: str,
    status: int,
) -> None:
    paths = [tmp_path / "test_first.py", tmp_path / "test_second.py"]
    for path, content in zip(paths, (first, second), strict=True):
        path.write_text(content)
    options = ["-c", str(tmp_path / "none.ini"), "-p", "no:cacheprovider"]
    (tmp_path / "none.ini").write_text("")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    parts = [[str(path)] for path in paths]
    monkeypatch.setattr(run, "STAGES", [parts] if at_once else [[part] for part in parts])
    assert run.main(options) == status
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1] == last_line
    assert sum("===" in line and " in " in line for line in lines) == 2  # both parts print their end


def test_a_run_that_cannot_start_counts_as_failed(tmp_path: Path) -> None:
    assert run.run([["--no-such-option"]], tmp_path) == [(0, 1, 0)]
