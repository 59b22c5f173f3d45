from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from model.atlas.errors import AtlasError
from model.atlas.folder import open_sweep
from tests.sweeps import write_sweep

COUNTS = np.array([[[4, 0], [2, 2]], [[0, 4], [3, 1]], [[2, 2], [0, 4]]])


def test_a_sweep_comes_back_with_its_labels_counts_and_sums(tmp_path: Path) -> None:
    sweep = open_sweep(write_sweep(tmp_path, COUNTS, top_k=2, layers=[3, 4], domains=["code", "math", None]))
    assert (sweep.layers, sweep.num_experts, sweep.top_k) == ((3, 4), 2, 2)
    assert sweep.counts_DLE.tolist() == COUNTS.tolist()
    assert not sweep.counts_DLE.flags.writeable
    assert sweep.selections_D.tolist() == [4, 4, 4]
    assert sweep.labels("domain").tolist() == ["code", "math", ""]
    assert sweep.labels("source").tolist() == ["", "", ""]
    assert sweep.strata["sum_n2"].tolist() == [16, 16, 16]
    assert sweep.cells.query("layer == 3 and expert == 0")["c"].tolist() == [2, 4]  # of the strata "" and "code"
    assert sweep.tokens is None
    assert sweep.documents.columns.tolist()[:4] == ["doc_id", "domain", "language", "source"]


def test_optional_tables_are_read(tmp_path: Path) -> None:
    rows = pd.DataFrame({"layer": [1], "expert": [0], "bucket": [2], "c": [3], "c2": [9], "cn": [12], "n": 4, "n2": 16})
    sweep = open_sweep(write_sweep(tmp_path, COUNTS, positions=rows))
    assert sweep.positions is not None
    assert sweep.positions["cn"].tolist() == [12]


def test_a_folder_without_a_finished_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match=r"is not the folder of a sweep: it has no manifest\.json"):
        open_sweep(tmp_path)
    write_sweep(tmp_path, COUNTS)
    (tmp_path / "counts.parquet").unlink()
    with pytest.raises(AtlasError, match=r"an unfinished sweep without counts\.parquet; run the same command again"):
        open_sweep(tmp_path)


def test_damaged_tables_are_refused(tmp_path: Path) -> None:
    write_sweep(tmp_path, COUNTS)
    content = (tmp_path / "strata.parquet").read_bytes()
    (tmp_path / "strata.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(AtlasError, match=r"strata\.parquet is damaged"):
        open_sweep(tmp_path)
    pd.DataFrame({"stratum": [0]}).to_parquet(tmp_path / "strata.parquet")
    with pytest.raises(AtlasError, match="lacks the columns domain, language, source, token_class"):
        open_sweep(tmp_path)


def test_counts_of_another_model_are_refused(tmp_path: Path) -> None:
    model = {"name": "another", "layers": [1, 2], "num_experts": 3, "top_k": 1}
    sweep = open_sweep(write_sweep(tmp_path, COUNTS, manifest={"model": model}))
    with pytest.raises(AtlasError, match="the counts of document 0 do not fit"):
        _ = sweep.counts_DLE


def test_unknown_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match="no label 'topic'; choose from domain, language, source"):
        open_sweep(write_sweep(tmp_path, COUNTS)).labels("topic")
