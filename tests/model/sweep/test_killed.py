"""A driver that is killed while it writes a part; the same command then gives the same bytes."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.model.sweep.test_run import contents, run, settings_for
from tests.test_architecture import ROOT

# The second table of the third part is never written.
CHILD = """
import os, signal, sys
from pathlib import Path
import pyarrow.parquet as pq
from tests.model.sweep.test_run import run, settings_for

write, tables = pq.ParquetWriter.write_table, []

def killed(writer, table, *args):
    tables.append(table["table"][0].as_py() if len(table) else "")
    if tables.count("documents") == 3 and tables[-1] != "documents":
        os.kill(os.getpid(), signal.SIGKILL)
    write(writer, table, *args)

pq.ParquetWriter.write_table = killed
run(settings_for(Path(sys.argv[1])))
"""


def test_a_killed_sweep_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir()
    whole.mkdir()
    child = subprocess.run([sys.executable, "-c", CHILD, str(killed)], cwd=ROOT, capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    names = sorted(path.name for path in (killed / "out" / "parts").iterdir())
    assert names[1:] == ["part-00000.parquet", "part-00001.parquet"]
    assert names[0].endswith(".tmp")
    run(settings_for(killed))
    run(settings_for(whole))
    assert contents(settings_for(killed)) == contents(settings_for(whole))
    assert len(list((killed / "out" / "parts").iterdir())) > 3
