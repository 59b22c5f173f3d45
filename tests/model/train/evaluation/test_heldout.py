"""Bits per byte, load and mutual information on texts where they can be worked out."""

import dataclasses
import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.weights import save_model
from model.cli.evaluate import evaluate_command
from model.cli.main import main
from model.network.transformer import Transformer
from model.train.data.corpus import CorpusError
from model.train.evaluation.heldout import Scores, cut, evaluate, read_pieces, score_batch
from model.train.evaluation.heldout_report import as_markdown, summarise
from tests.model.train.corpora import SENTENCES, write_tiny_shards
from tests.models import random_model, tiny_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluate")
    write_tiny_shards(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder / "tokenizer.json")


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Transformer:
    return random_model(tiny_config(vocab_size=tokenizer.size, num_layers=3))


def test_pieces_cover_a_record_and_begin_with_bos(tokenizer: Tokenizer) -> None:
    text = SENTENCES["stories.en"] * 3 + "é"
    pieces = list(cut(text, 1, 0, tokenizer, window=8))
    assert all(len(piece.token_ids) <= 8 and piece.token_ids[0] == 0 for piece in pieces)
    assert sum((piece.token_ids[1:] for piece in pieces), []) == tokenizer.encode(text)
    assert sum(piece.num_bytes for piece in pieces) == len(text.encode())


def test_max_bytes_keeps_whole_records(folder: Path, tokenizer: Tokenizer) -> None:
    streams, pieces = read_pieces(folder / "corpus", tokenizer, 64, max_bytes=1)
    assert streams == ["code.python", "stories.en"]
    assert [piece.stream for piece in pieces] == [0, 1]


def test_padding_changes_neither_nats_nor_counts(model: Transformer, tokenizer: Tokenizer) -> None:
    pieces = [next(cut(text, 0, 0, tokenizer, 64)) for text in ("a fox", SENTENCES["stories.en"])]
    together_B, counts_BLE = score_batch(model, pieces)
    for place, piece in enumerate(pieces):
        nats_B, alone_BLE = score_batch(model, [piece])
        assert together_B[place] == pytest.approx(nats_B[0], rel=1e-4)
        assert (counts_BLE[place] == alone_BLE[0]).all()
        assert (counts_BLE[place].sum(-1) == 4 * (len(piece.token_ids) - 1)).all()


def test_nats_are_those_of_the_logits(model: Transformer, tokenizer: Tokenizer) -> None:
    piece = next(cut("a fox ran", 0, 0, tokenizer, 64))
    with torch.inference_mode():
        logprobs = model(torch.tensor([piece.token_ids]))[0].log_softmax(-1)
    expected = -sum(float(logprobs[place, token]) for place, token in enumerate(piece.token_ids[1:]))
    assert score_batch(model, [piece])[0][0] == pytest.approx(expected, rel=1e-5)


def scores(counts_PLE: np.ndarray) -> Scores:
    num_pieces = len(counts_PLE)
    return Scores(
        streams=("a.en", "b.en"),
        stream_P=np.arange(num_pieces) % 2,
        document_P=np.arange(num_pieces),
        bytes_P=np.full(num_pieces, 10),
        tokens_P=np.full(num_pieces, 4),
        nats_P=np.where(np.arange(num_pieces) % 2, 20 * math.log(2), 10 * math.log(2)),
        counts_PLE=counts_PLE,
        moe_layers=(1,),
    )


def test_separate_experts_for_each_stream_carry_one_bit() -> None:
    measured = scores(np.array([[[4, 0]], [[0, 4]]] * 50))
    assert measured.bits_per_byte() == pytest.approx({"a.en": 1.0, "b.en": 2.0})
    summary = summarise(measured)
    (told,) = summary["information"]["domain"]
    assert told["nats"] == pytest.approx(math.log(2))
    assert told["shuffled"] < 0.05
    assert summary["information"]["language"][0]["nats"] == pytest.approx(0.0, abs=1e-12)
    named = {row["kind"]: (row["layer"], row["expert"], row["share"]) for row in summary["strongest"]}
    assert named["a"] == (1, 0, 1.0)
    assert named["b"] == (1, 1, 1.0)


def test_pieces_of_one_document_count_as_one() -> None:
    """Cutting documents in halves changes neither values nor intervals, which are over documents."""
    counts_PLE = np.random.default_rng(0).integers(0, 9, (80, 1, 2))
    halves = dataclasses.replace(
        scores(counts_PLE), stream_P=np.arange(80) // 2 % 2, document_P=np.arange(80) // 2, nats_P=np.arange(80.0)
    )
    whole = halves.by_document
    assert whole.counts_PLE.tolist() == counts_PLE.reshape(40, 2, 1, 2).sum(1).tolist()
    assert (whole.bytes_P.tolist(), whole.tokens_P.tolist()) == ([20] * 40, [8] * 40)
    assert whole.nats_P.tolist() == (np.arange(80.0).reshape(40, 2).sum(1)).tolist()
    assert whole.stream_P.tolist() == [0, 1] * 20
    summary = summarise(halves)
    assert summary == summarise(whole)
    assert (summary["documents"], summary["streams"]["a.en"]["documents"]) == (40, 20)
    low, high = (summary["streams"]["a.en"][name] for name in ("low", "high"))
    assert low < summary["streams"]["a.en"]["bits_per_byte"] < high
    assert f"{low:.3f} to {high:.3f}" in as_markdown(summary)


def test_few_documents_have_no_interval() -> None:
    summary = summarise(scores(np.array([[[4, 0]], [[0, 4]]] * 5)))
    assert summary["information"]["domain"][0]["low"] is None
    assert "| too few documents |" in as_markdown(summary)
    json.dumps(summary, allow_nan=False)


def test_balance_can_be_weighted_as_in_training() -> None:
    """Text a goes to expert 0, text b to expert 1; with three quarters of a, expert 0 has 1.5 times its fair share."""
    summary = summarise(scores(np.array([[[4, 0]], [[0, 4]]] * 5)), {"a.en": 0.75, "b.en": 0.25})
    assert summary["balance"]["as it is"]["max_violation"] == pytest.approx([0.0])
    assert summary["balance"]["weighted as in training"]["max_violation"] == pytest.approx([0.5])
    assert summary["streams"]["a.en"]["max_violation"] == pytest.approx([1.0])
    assert summary["balance"]["weighted as in training"]["dead_experts"] == [0]


def test_summary_names_streams_and_layers(model: Transformer, folder: Path, tokenizer: Tokenizer) -> None:
    streams, pieces = read_pieces(folder / "corpus", tokenizer, 64, max_bytes=500)
    summary = summarise(evaluate(model, streams, pieces))
    assert list(summary["streams"]) == streams
    assert summary["layers"] == [1, 2]
    assert summary["tokens"] == sum(len(piece.token_ids) - 1 for piece in pieces)
    assert summary["balance"]["as it is"]["max_violation"][0] > 0
    assert "| code.python |" in as_markdown(summary)


def test_a_stream_without_text_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with gzip.open(tmp_path / "code.go.jsonl.gz", "wt", encoding="utf-8"):
        pass
    with pytest.raises(CorpusError, match="code.go of .* holds no text; remove its file"):
        read_pieces(tmp_path, tokenizer, 64, max_bytes=None)


def test_command_writes_what_it_shows(model: Transformer, folder: Path, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model", torch.float32)
    (tmp_path / "model" / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    arguments = [str(tmp_path / "model"), "--heldout", str(folder / "corpus"), "--max-bytes", "300"]
    arguments += ["--shards", str(folder / "shards"), "--device", "cpu"]
    result = CliRunner().invoke(evaluate_command, [*arguments, "--out", str(tmp_path / "figures.json")])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert f"{figures['streams']['stories.en']['bits_per_byte']:.3f}" in result.output


def test_a_stage_says_how_streams_are_weighed(model: Transformer, folder: Path, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model", torch.float32)
    (tmp_path / "model" / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    stage = tmp_path / "stage.toml"
    steps = "total_steps = 1\nwarmup_steps = 0\ndecay_steps = 0\nlearning_rate = 1e-3\nsequence_length = 8\n"
    only_python = 'batch_size = 1\nbias_speed = 0.0\n[train.mixture]\n"stories.en" = 0.0\n'
    stage.write_text(f'[continue]\nstart = "mini-v3"\n[train]\n{steps}{only_python}')
    arguments = [str(tmp_path / "model"), "--heldout", str(folder / "corpus"), "--max-bytes", "300", "--device", "cpu"]
    alone = CliRunner().invoke(evaluate_command, [*arguments, "--stage", str(stage)])
    assert (alone.exit_code, "give --shards too" in alone.output) == (2, True)
    out = tmp_path / "figures.json"
    arguments += ["--shards", str(folder / "shards"), "--stage", str(stage), "--out", str(out)]
    assert CliRunner().invoke(evaluate_command, arguments).exit_code == 0
    figures = json.loads(out.read_text())
    python_alone = figures["streams"]["code.python"]["max_violation"]
    assert figures["balance"]["weighted as in training"]["max_violation"] == python_alone


def test_a_model_without_mixture_layers_has_bits_and_no_balance(folder: Path, tokenizer: Tokenizer) -> None:
    dense = random_model(tiny_config(vocab_size=tokenizer.size, num_layers=2, num_dense_layers=2))
    streams, pieces = read_pieces(folder / "corpus", tokenizer, 64, max_bytes=500)
    summary = summarise(evaluate(dense, streams, pieces, progress=False))
    assert all(row["bits_per_byte"] > 0 for row in summary["streams"].values())
    assert (summary["layers"], summary["strongest"]) == ([], [])
    assert "| code.python |" in as_markdown(summary)


def test_a_device_that_is_not_there_is_said(folder: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", str(tmp_path), "--heldout", str(folder / "corpus"), "--device", "gpu"]
    (tmp_path / "config.json").write_text("{}")
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "there is no device 'gpu' here; use 'auto' or 'cpu'" in result.output
