"""A plan checked by running it, on a tiny model: knocked-out experts, left-out documents, resuming, and bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.atlas.plan import random_cut
from model.atlas.plan_file import Plan
from model.checkpoint.weights import save_model
from model.run.engine import Engine
from model.run.interventions import KnockOut
from model.run.request import RunRequest
from model.sweep.plan_check import Request, check, choose
from model.sweep.routing import doc_id
from model.sweep.settings import SweepError
from model.sweep.texts import Document
from model.train.data.bpe import train_vocabulary
from tests.models import random_model, tiny_config

WORDS = ("wolf", "moon", "river", "stone", "ran", "saw", "the", "a", "old", "dark")
NUMBER = 22


def text_of(number: int) -> str:
    rng = np.random.default_rng(number)
    return f"{number} " + " ".join(WORDS[index] for index in rng.integers(0, len(WORDS), 12)) + "."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check") / "tiny"
    save_model(random_model(tiny_config()), folder, torch.float32)
    vocabulary = train_vocabulary([text_of(number) for number in range(50)], 320, show_progress=False)
    vocabulary.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"text": text_of(number)}) for number in range(NUMBER)))
    return path


def plan_of(cut_LE: np.ndarray, weights: str = "other") -> Plan:
    return Plan({"groups": {"number": 4}, "model": {"weights_sha256": weights}}, (1, 2, 3, 4), cut_LE)


CUT = random_cut((4, 16), 4, 4, seed=9)


def run(model: Path, texts: Path, cut_LE: np.ndarray = CUT, swept: Any = (), **changes: Any) -> dict[str, Any]:
    request = Request(str(model), (texts,), **{"tokens": 10_000, "controls": 2, "device": "cpu"} | changes)
    return check(plan_of(cut_LE), request, swept, texts.with_name("log"))


def test_bits_are_those_of_a_run_with_the_experts_knocked_out(model: Path, texts: Path) -> None:
    result = run(model, texts)
    engine = Engine.load(model, device="cpu")
    layers = [(1 + layer, expert) for layer, expert in np.argwhere(CUT).tolist()]
    knocked_out = tuple(KnockOut(layer, expert) for layer, expert in layers)
    bits, num_bytes = {False: 0.0, True: 0.0}, 0
    for number in range(NUMBER):
        num_bytes += len(text_of(number).encode())
        for cut in bits:
            trace = engine.run(RunRequest(prompt=text_of(number), interventions=knocked_out if cut else ()))
            bits[cut] -= float(np.nansum(trace.data["logprob"].values)) / np.log(2)
    assert (result["documents"], result["same_weights"]) == (NUMBER, False)
    assert result["as_trained"] == pytest.approx(bits[False] / num_bytes, rel=1e-5)
    assert result["plan"]["bits_per_byte"] == pytest.approx(bits[True] / num_bytes, rel=1e-5)
    assert result["plan"]["harm"] == pytest.approx((bits[True] - bits[False]) / num_bytes, rel=1e-3)
    assert result["plan"]["low"] < result["plan"]["harm"] < result["plan"]["high"]


def test_a_plan_that_cuts_nothing_changes_nothing(model: Path, texts: Path) -> None:
    result = run(model, texts, np.zeros((4, 16), bool), controls=1)
    assert result["plan"]["harm"] == 0
    assert {row["value"] for row in result["damage"]} == {0}
    assert result["beaten"] == 0


def test_damage_is_that_of_runs_with_the_experts_knocked_out(model: Path, texts: Path) -> None:
    cut_LE = np.zeros((4, 16), bool)
    cut_LE[3, [0, 4, 8, 12]] = True
    result = run(model, texts, cut_LE, controls=0)
    engine, moved, decisions = Engine.load(model, device="cpu"), 0, 0
    changes = ((), tuple(KnockOut(4, expert) for expert in (0, 4, 8, 12)))
    for number in range(NUMBER):
        runs = (engine.run(RunRequest(prompt=text_of(number), interventions=change)) for change in changes)
        first, second = (np.sort(run.data["expert_id"].sel(moe_layer=4).values) for run in runs)
        moved, decisions = moved + int((first != second).any(-1).sum()), decisions + len(first)
    assert result["split_share_by_layer"] == pytest.approx({"1": 0, "2": 0, "3": 0, "4": moved / decisions})
    assert result["closest"] is None


def test_swept_documents_are_left_out(model: Path, texts: Path) -> None:
    swept = {doc_id(Document(text_of(number))) for number in range(2)}
    result = run(model, texts, swept=swept, controls=0)
    assert (result["documents"], result["documents_left_out_as_swept"]) == (NUMBER - 2, 2)
    swept = {doc_id(Document(text_of(number))) for number in range(3)}
    with pytest.raises(SweepError, match="at least 20 documents that the sweep does not hold, not 19"):
        run(model, texts, swept=swept)


def test_only_as_many_documents_are_held_as_the_tokens_need(texts: Path) -> None:
    documents, _ = choose(Request("x", (texts,), tokens=1), ())
    everything, _ = choose(Request("x", (texts,), tokens=10_000), ())
    assert (len(documents), len(everything)) == (20, NUMBER)
    assert documents == everything[:20]


def test_a_stopped_check_goes_on(model: Path, texts: Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, number: int, seconds: float) -> None:
        if done == 3:
            raise Stop

    request, log, notes = Request(str(model), (texts,), controls=2, device="cpu"), texts.with_name("log"), []
    with pytest.raises(Stop):
        check(plan_of(CUT), request, (), log, stop)
    whole = log.read_text().splitlines()
    log.write_text("\n".join(whole[:-1]) + "\n" + whole[-1][:40])  # the last variant was not written to its end
    result = check(plan_of(CUT), request, (), log, on_note=notes.append)
    assert notes == ["2 variants were finished before; the check goes on"]
    assert result == run(model, texts)
    assert not log.exists()


def test_another_check_is_not_mixed_in(model: Path, texts: Path) -> None:
    log, notes = texts.with_name("log"), []
    log.write_text("another\n[1]\n")
    check(plan_of(CUT), Request(str(model), (texts,), controls=0, device="cpu"), (), log, on_note=notes.append)
    assert notes == [f"{log} belongs to another check and is replaced"]


def test_another_model_is_refused(model: Path, texts: Path) -> None:
    with pytest.raises(
        SweepError, match=r"has 16 experts in 4 layers, the plan is for 8 in 4; check the model that was"
    ):
        run(model, texts, np.zeros((4, 8), bool))
