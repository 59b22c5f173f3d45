"""What the stages after pre-training have in common: all weights learn but the indexers', and answers are compared.

The indexers go on choosing keys as they were trained to, and the selection biases stay. Each stage begins with what the
one before wrote, so only the last one need store in block FP8 (`store` in `[train]`). What is measured before the first
step, and of the finished model as it is stored, is in `measured.json`; what is measured on the way, in the log.

Shape suffixes: B rows, T positions, D model width, N positions that count, V vocabulary.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model.checkpoint.embedded import find_model
from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.weights import load_model
from model.network.tape import Tape
from model.network.transformer import Transformer
from model.train.config import TrainConfig
from model.train.data.batches import Batches
from model.train.export import export
from model.train.freezing import freeze_indexers
from model.train.minimise import PartLoss, Report, minimise
from model.train.post_training.correctness import Share, judge, shares
from model.train.post_training.generate import generate
from model.train.post_training.pairs import Batch, Framing, Pair, write_template
from model.train.tapes import RoutingTape

MEASURED = "measured.json"
MORE = 24  # tokens that an answer may be longer than the wanted response
Measure = Callable[[Transformer], dict[str, Any]]


def load_start(start: str, config: TrainConfig) -> tuple[Path, Framing, Transformer]:
    """Folder, framing and weights of the model that a stage begins with, ready to be tuned.

    Raises:
        TrainConfigError: `sequence_length` is more than its context.
    """
    folder = find_model(start)
    framing, model = Framing(Tokenizer.load(folder)), load_model(folder, "cpu", torch.float32)
    config.require_context(model.config.max_positions)
    return folder, framing, freeze_indexers(model)


def run_stage(
    model: Transformer,
    folder: Path,
    loss: PartLoss,
    config: TrainConfig,
    data: Batches[Any],
    out: Path,
    measure: Measure,
    report: Report,
    resume: bool = False,
) -> None:
    """Train in place, write the model to `out/model`, and what was measured before and of that to `out/measured.json`.

    Args:
        model: see `load_start`.
        folder: of the model at the start, whose tokenizer.json goes along.
        loss: of one step's batch.
        config: everything else.
        data: what the loss is computed of.
        out: folder of the run; made when missing.
        measure: what is compared; must leave the model as it found it.
        report: called with each step's log line.
        resume: continue from the state in `out`.
    """
    looks: list[dict[str, Any]] = []

    def look() -> dict[str, Any]:
        looks.append(measure(model))
        return looks[-1]

    before = minimise(model, loss, config, data, out, report, look, resume)
    export(model, folder / "tokenizer.json", out / "model", config.store)
    write_template(out / "model")
    if looks and config.store == "float32":  # what is stored is what was looked at last
        after = looks[-1]
    else:
        after = measure(load_model(out / "model", "cpu", torch.float32))
    write_measured(out, before, after)


def write_measured(out: Path, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Keep what was measured of the model at the start and of the finished one as it is stored."""
    text = json.dumps({"before": before, "after": after}, indent=1, ensure_ascii=False)
    (out / MEASURED).write_text(text + "\n", encoding="utf-8")


def answer_shares(model: Transformer, framing: Framing, pairs: Sequence[Pair]) -> dict[str, Share]:
    """How many greedy answers are right, by kind; see correctness.py."""
    room = [len(framing.wanted(pair.response)) + MORE for pair in pairs]
    found = generate(model, [framing.given(pair.prompt) for pair in pairs], room)
    said = (framing.said(answer.ids) for answer in found)
    return shares(judge(pair.kind, text, pair.response) for pair, text in zip(pairs, said, strict=True))


def response_logprobs(model: Transformer, batch: Batch, tape: Tape | None = None) -> Tensor:
    """Log-probability of each token of the responses, [B, T]; zero where none is counted."""
    normed_BTD = model.norm(model.hidden(batch.ids_BT, tape=tape))
    counted_BT = batch.counted_BT
    logits_NV = F.linear(normed_BTD[counted_BT], model.head_weight).float()
    goal_N = batch.goals_BT[counted_BT]
    of_goal_N = logits_NV.gather(-1, goal_N[:, None])[:, 0] - logits_NV.logsumexp(-1)
    return torch.zeros(counted_BT.shape).masked_scatter(counted_BT, of_goal_N)


def row_facts(model: Transformer, tape: RoutingTape, batch: Batch) -> dict[str, Any]:
    """What the log keeps of every step: `tokens`, and `load`, those that each expert took, by the number of its layer.

    What rows are filled up with is not counted.
    """
    real_T, shape = batch.real_BT.flatten(), model.config
    ids = (routing.expert_ids_TK[real_T].flatten() for routing in tape.routings)
    counts = [torch.bincount(ids_N, minlength=shape.num_experts).tolist() for ids_N in ids]
    return {"tokens": int(real_T.sum()), "load": dict(zip(map(str, shape.moe_layers), counts, strict=True))}
