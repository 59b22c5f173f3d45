"""llama.cpp's importance matrix: counts come back, they must agree, and damaged files are refused."""

from pathlib import Path

import numpy as np
import pytest

from model.trace import limits
from model.trace.imports.building import Named
from model.trace.imports.count_formats import read_counts, read_counts_file
from model.trace.imports.formats import read
from model.trace.trace import TraceError
from tests import engines
from tests.engines import CONFIG, TINY

COUNTS = np.random.default_rng(1).integers(0, 500, (4, 16))


def refused(content: bytes, named: Named = TINY) -> str:
    with pytest.raises(TraceError) as caught:
        read_counts(content, named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("parts", [("gate", "up", "down"), ("gate_up", "down")])
def test_counts_come_back(parts: tuple[str, ...]) -> None:
    counts = read_counts(engines.imatrix(COUNTS, parts=parts), TINY)
    assert np.array_equal(counts.total, COUNTS)
    assert counts.notes[0] == "2 chunks of 512 tokens"
    assert "not every token was counted in every layer" in counts.notes[1]


def test_extent_is_in_tokens_where_selections_allow_it() -> None:
    even = np.full((4, 16), 8)
    even[:, 0], even[:, 1] = 9, 7
    counts = read_counts(engines.imatrix(even), TINY)  # 128 selections, 4 of each token
    assert counts.extent() == "counts of 32 tokens, spread unknown"
    assert counts.notes == ("2 chunks of 512 tokens",)
    even[:, 0] = 10
    assert read_counts(engines.imatrix(even), TINY).extent() == "counts of 129 selections in a layer, spread unknown"


def test_counts_that_disagree_or_stand_alone_are_refused() -> None:
    content = engines.imatrix(COUNTS)
    first = np.float32(COUNTS[0, 0]).tobytes() + np.float32(COUNTS[0, 1]).tobytes()
    changed = content.replace(first, np.float32(COUNTS[0, 0] + 1).tobytes() + first[4:], 1)
    assert "the counts of ffn_gate_exps and ffn_up_exps differ in L1" in refused(changed)
    assert "nothing confirms them" in refused(engines.imatrix(COUNTS, parts=("gate",)))
    assert "one count for all experts" in refused(engines.imatrix(np.full((4, 16), 7)))
    assert "must hold whole numbers" in refused(engines.imatrix(COUNTS + 0.5))
    assert "must hold whole numbers" in refused(engines.imatrix(np.full((4, 16), np.nan)))


def test_rounded_counts_are_said() -> None:
    counts = COUNTS.copy()
    counts[0, 0] = 1 << 24
    assert "counts above 16,777,216 are rounded" in read_counts(engines.imatrix(counts), TINY).notes


def test_other_files_are_named() -> None:
    name = b"blk.0.attn_q.weight"
    legacy = (3).to_bytes(4, "little") + len(name).to_bytes(4, "little") + name + bytes(40)
    assert "legacy format .dat, which keeps no counts" in refused(legacy)
    with pytest.raises(TraceError, match="legacy format .dat, which keeps no counts"):
        read(legacy, "auto", TINY)
    with pytest.raises(TraceError, match="holds counts of experts and no tokens"):
        read(engines.imatrix(COUNTS), "auto", TINY)
    model = engines.gguf({"general.type": "model", "imatrix.chunk_count": 1}, {})
    assert "not an importance matrix" in refused(model)
    nothing = engines.gguf({"general.type": "imatrix", "imatrix.chunk_count": 1}, {})
    assert "no counts of experts" in refused(nothing)


def test_another_model_is_refused() -> None:
    for change, message in (
        ({"n_routed_experts": 8}, "16 experts in L1, the model named has 8"),
        ({"num_hidden_layers": 6}, "counts nothing in L5"),
        ({"first_k_dense_replace": 2}, "counts experts in L1; the model named has them in L2 to L4"),
    ):
        assert message in refused(engines.imatrix(COUNTS), Named("other", CONFIG | change))


def test_every_cut_is_refused_in_one_line() -> None:
    content = engines.imatrix(COUNTS)
    for size in [*range(400, 3000, 97), len(content) - 1]:
        refused(content[:size])


def test_a_file_larger_than_any_import_is_read_for_its_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "imatrix.gguf"
    path.write_bytes(engines.imatrix(COUNTS))
    monkeypatch.setattr(limits, "MOST_IMPORT_BYTES", 1000)
    assert np.array_equal(read_counts_file(path, TINY).total, COUNTS)
    path.write_bytes(b"-1 5 16\n" * 1000)
    for broken, message in (
        (path, "larger than the 1,000 bytes"),
        (tmp_path, "not an ordinary file"),
        (tmp_path / "x", "No such"),
    ):
        with pytest.raises(TraceError, match=message) as caught:
            read_counts_file(broken, TINY)
        assert str(broken) in str(caught.value)
    path.write_bytes(b"{}")
    with pytest.raises(TraceError, match=r"imatrix.gguf: the file holds no counts"):
        read_counts_file(path, TINY)
