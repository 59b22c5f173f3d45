"""Runs of several threads on one model never see each other's tapes."""

import sys
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from model.families.seam import instrument
from model.families.tape import Pass, RawRouting, Tape
from tests.families import Watched, build

RUNS, PROMPTS = 250, ([3, 4, 5], [6, 7, 8, 9], [10, 11], [12, 13, 14, 15, 16])
SMALL = {"num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    """Python switches threads every 5 ms; here 500 times as often, so that hooks of several threads interleave."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def tape_of(model: Watched, thread: int) -> Tape | None:
    """No tape, one that records, one that also edits, one with attention."""
    last = list(model.seam.blocks)[-1]
    edits = {last: lambda raw, _start: RawRouting(raw.logits_TC, raw.ids_TK.flip(-1), raw.weights_TK * 2)}
    return (None, Tape(), Tape(edits), Tape(attention=model.seam.attention.keys(), inputs=True))[thread]


def run(model: Watched, thread: int) -> tuple[Tensor, Pass | None]:
    tape = tape_of(model, thread)
    return model.logits(PROMPTS[thread], tape), tape and tape.take()


def tensors(result: tuple[Tensor, Pass | None]) -> list[Tensor]:
    logits, taken = result
    if taken is None:
        return [logits]
    nested = [part for by_key in (taken.routing, taken.attention) for parts in by_key.values() for part in parts]
    return [logits, *nested, *taken.norms.values(), *taken.inputs.values()]


@pytest.mark.parametrize("model_type", ["qwen3_moe", "gpt_oss", "llama4_text"])
def test_four_threads_on_one_model(model_type: str) -> None:
    small = build(model_type, **SMALL | ({} if model_type != "gpt_oss" else {"layer_types": ["full_attention"]}))
    model = Watched(small, instrument(small))
    expected = [tensors(run(model, thread)) for thread in range(len(PROMPTS))]
    assert len({len(one) for one in expected}) == 4 - 1  # recording and editing record the same tensors
    counts = [0] * len(PROMPTS)

    def work(thread: int) -> None:
        torch.set_num_threads(1)
        for _ in range(RUNS):
            result = tensors(run(model, thread))
            counts[thread] += all(map(torch.equal, result, expected[thread])) and len(result) == len(expected[thread])

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(len(PROMPTS))]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert counts == [RUNS] * len(PROMPTS)
