"""Bits per byte by position, on texts where they can be worked out."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.weights import save_model
from model.network.rope import Yarn
from model.train.data.corpus import CorpusError
from model.train.evaluation.context import (
    LongText,
    as_markdown,
    by_position,
    context_command,
    read_long,
    spans,
    token_nats,
)
from tests.model.train.corpora import write_corpus, write_tiny_shards
from tests.models import random_model, tiny_config


def test_spans_double_from_the_first_context_to_the_window() -> None:
    assert spans(tiny_config(max_positions=512), 2048) == [(1, 512), (512, 1024), (1024, 2048)]
    yarn = Yarn(factor=4, original_max_positions=512)
    assert spans(tiny_config(max_positions=2048, yarn=yarn), 1500) == [(1, 512), (512, 1024), (1024, 1500)]
    assert spans(tiny_config(max_positions=512), 300) == [(1, 300)]


def test_each_token_costs_what_the_logits_say() -> None:
    model = random_model(tiny_config(num_layers=2, max_positions=16))
    token_ids = torch.arange(10, 21).tolist()
    with torch.inference_mode():
        logprobs = [model(torch.tensor([[0, *token_ids[a:b]]]))[0].log_softmax(-1) for a, b in ((0, 7), (7, 11))]
    expected = [-float(logprobs[i // 7][i % 7, token_id]) for i, token_id in enumerate(token_ids)]
    assert token_nats(model, token_ids, 8).tolist() == pytest.approx(expected, rel=1e-4)


def test_table_adds_up_to_the_whole(tmp_path: Path) -> None:
    shards = write_tiny_shards(tmp_path)
    tokenizer = Tokenizer.load(shards)
    model = random_model(tiny_config(num_layers=2, max_positions=8, vocab_size=tokenizer.size))
    texts = read_long(tmp_path / "corpus", tokenizer, 32, per_stream=2)
    assert all(17 <= len(text.token_ids) <= 31 for text in texts)
    assert all(tokenizer.decode(text.token_ids) == b"" or len(tokenizer.decode(text.token_ids)) == text.bytes_N.sum()
               for text in texts)  # fmt: skip
    rows = by_position(model, texts, 32)
    assert [(row["start"], row["end"]) for row in rows] == [(1, 8), (8, 16), (16, 32)]
    assert rows[0]["bits_per_byte"] == pytest.approx(rows[0]["in_pieces"], rel=1e-4)  # the same computation
    assert rows[-1]["bits_per_byte"] != pytest.approx(rows[-1]["in_pieces"], rel=1e-4)
    assert sum(row["tokens"] for row in rows) == sum(len(text.token_ids) for text in texts)
    for row, here in ((rows[0], slice(0, 7)), (rows[-1], slice(15, 31))):
        num_bytes = sum(text.bytes_N[here].sum() for text in texts)
        for name, window in (("bits_per_byte", 32), ("in_pieces", 8)):
            nats = sum(token_nats(model, text.token_ids, window)[here].sum() for text in texts)
            assert row[name] == pytest.approx(nats / num_bytes / math.log(2)), name


def saved(tmp_path: Path) -> Path:
    shards = write_tiny_shards(tmp_path)
    save_model(random_model(tiny_config(num_layers=2, max_positions=16)), tmp_path / "model", torch.float32)
    (tmp_path / "model" / "tokenizer.json").write_bytes((shards / "tokenizer.json").read_bytes())
    return tmp_path / "model"


def show(folder: Path, heldout: Path, window: str) -> str:
    arguments = [str(folder), "--heldout", str(heldout), "--window", window, "--per-stream", "1", "--device", "cpu"]
    result = CliRunner().invoke(context_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_no_long_record_is_said(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    with pytest.raises(CorpusError, match="no record of more than 512 tokens"):
        show(folder, write_corpus(tmp_path / "short"), "1024")


def test_command_prints_the_table(tmp_path: Path) -> None:
    assert "| 16 to 31 |" in show(saved(tmp_path), tmp_path / "corpus", "32")


def test_positions_that_no_text_reaches_have_no_bits() -> None:
    model = random_model(tiny_config(num_layers=2, max_positions=8))
    text = LongText(token_ids=list(range(10, 21)), bytes_N=np.ones(11))  # of 12 positions, the BOS among them
    *reached, last = by_position(model, [text], 32)
    assert [row["tokens"] for row in (*reached, last)] == [7, 4, 0]
    assert all(math.isfinite(row["bits_per_byte"]) for row in reached)
    assert math.isnan(last["bits_per_byte"])
    assert math.isnan(last["in_pieces"])
    assert "| nan | nan | 0 |" in as_markdown([last])


def test_a_device_that_is_not_there_is_said(tmp_path: Path) -> None:
    result = CliRunner().invoke(context_command, ["mini-v3", "--heldout", str(tmp_path), "--device", "gpu"])
    assert result.exit_code == 2
    assert "there is no device 'gpu' here; use 'auto' or 'cpu'" in result.output
