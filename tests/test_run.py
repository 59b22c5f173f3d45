"""The totals over two runs of pytest, on two small files of tests."""

from pathlib import Path

import pytest

from tests import run

PASSES = "def test_passes(): pass\n"
FAILS = "def test_fails(): assert False\n"
SKIPS = "import pytest\ndef test_skips(): pytest.skip()\n"
ERRS = "import pytest\n@pytest.fixture\ndef broken(): raise OSError\ndef test_errs(broken): pass\n"


@pytest.mark.parametrize(
    ("first", "second", "last_line", "status"),
    [
        (PASSES + SKIPS, PASSES, "2 passed, 0 failed, 1 skipped", 0),
        (PASSES + FAILS, PASSES, "2 passed, 1 failed, 0 skipped", 1),
        (PASSES, FAILS + ERRS, "1 passed, 2 failed, 0 skipped", 1),
        ("import nothing_of_this_name", PASSES, "1 passed, 1 failed, 0 skipped", 1),
        (SKIPS, "", "0 passed, 0 failed, 1 skipped", 1),
    ],
    ids=["all pass", "first fails", "second fails", "first cannot be collected", "nothing passes"],
)
def test_totals_and_status(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    first: str,
    second: str,
    last_line: str,
    status: int,
) -> None:
    paths = [tmp_path / "test_first.py", tmp_path / "test_second.py"]
    for path, content in zip(paths, (first, second), strict=True):
        path.write_text(content)
    options = ["-c", str(tmp_path / "none.ini"), "-p", "no:cacheprovider"]
    (tmp_path / "none.ini").write_text("")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setattr(run, "PARTS", [[str(path)] for path in paths])
    assert run.main(options) == status
    assert capfd.readouterr().out.splitlines()[-1] == last_line


def test_a_run_that_cannot_start_counts_as_failed(tmp_path: Path) -> None:
    assert run.run(["--no-such-option"], tmp_path / "report.xml") == (0, 1, 0)
