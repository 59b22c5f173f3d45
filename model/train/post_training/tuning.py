"""Functions that the post-training stages share: loading the base model, running a stage, and evaluating answers.

All weights are trained except those of the indexers; the selection biases stay constant. Each stage starts from the
model of the stage before it, so only the last stage needs to store block FP8 (`store` in `[train]`). `measured.json`
holds the evaluation before the first step and that of the stored model; the log holds the evaluations in between.

Shape suffixes: B rows, T positions, D model width, N positions in responses, V vocabulary.
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
from model.train.minimise import Loss, Report, minimise
from model.train.post_training.correctness import Share, judge, shares
from model.train.post_training.generate import generate
from model.train.post_training.pairs import Batch, Framing, Pair, write_template
from model.train.tapes import RoutingTape

MEASURED = "measured.json"
MORE_TOKENS = 24  # an answer may be this many tokens longer than the reference response
Measure = Callable[[Transformer], dict[str, Any]]


def load_base_model(start: str, config: TrainConfig) -> tuple[Path, Framing, Transformer]:
    """Return folder, framing (`pairs.Framing`) and network of the base model; the network's indexers are frozen.

    Raises:
        TrainConfigError: `sequence_length` exceeds the context of the base model.
    """
    folder = find_model(start)
    framing, model = Framing(Tokenizer.load(folder)), load_model(folder, "cpu", torch.float32)
    config.require_context(model.config.max_positions)
    return folder, framing, freeze_indexers(model)


def run_stage(
    model: Transformer,
    folder: Path,
    loss: Loss,
    config: TrainConfig,
    data: Batches[Any],
    out: Path,
    measure: Measure,
    report: Report,
    resume: bool = False,
) -> None:
    """Train a model in place; write it with a chat template to `out/model`, and its evaluations to `measured.json`.

    Args:
        model: the base model, from `load_base_model`.
        folder: folder of the base model, whose tokenizer.json is copied.
        loss: loss of the batch of one step.
        config: all other settings.
        data: batches for the loss.
        out: folder of the run, created if it is missing.
        measure: function that evaluates a model without changing it.
        report: called with each step's log line.
        resume: continue from the state in `out`.
    """
    evaluations: list[dict[str, Any]] = []

    def evaluate() -> dict[str, Any]:
        evaluations.append(measure(model))
        return evaluations[-1]

    before = minimise(model, loss, config, data, out, report, evaluate, resume)
    export(model, folder / "tokenizer.json", out / "model", config.store)
    write_template(out / "model")
    if evaluations and config.store == "float32":  # the stored weights are those of the last evaluation
        after = evaluations[-1]
    else:
        after = measure(load_model(out / "model", "cpu", torch.float32))
    write_measured(out, before, after)


def write_measured(out: Path, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Write the evaluations of the base model and of the stored model to `measured.json`."""
    text = json.dumps({"before": before, "after": after}, indent=1, ensure_ascii=False)
    (out / MEASURED).write_text(text + "\n", encoding="utf-8")


def answer_shares(model: Transformer, framing: Framing, pairs: Sequence[Pair]) -> dict[str, Share]:
    """Return for each kind how many answers at temperature 0 are right; see correctness.py."""
    limits = [len(framing.response_ids(pair.response)) + MORE_TOKENS for pair in pairs]
    answers = generate(model, [framing.prompt_ids(pair.prompt) for pair in pairs], limits)
    texts = (framing.text(answer.ids) for answer in answers)
    return shares(judge(pair.kind, text, pair.response) for pair, text in zip(pairs, texts, strict=True))


def response_logprobs(model: Transformer, batch: Batch, tape: Tape | None = None) -> Tensor:
    """Return the log-probability of each response token, [B, T], and zero elsewhere."""
    normed_BTD = model.norm(model.hidden(batch.ids_BT, tape=tape))
    counted_BT = batch.counted_BT
    logits_NV = F.linear(normed_BTD[counted_BT], model.head_weight).float()
    target_N = batch.targets_BT[counted_BT]
    logprob_N = logits_NV.gather(-1, target_N[:, None])[:, 0] - logits_NV.logsumexp(-1)
    return logprob_N.new_zeros(counted_BT.shape).masked_scatter(counted_BT, logprob_N)


def row_facts(model: Transformer, tape: RoutingTape, batch: Batch) -> dict[str, Any]:
    """Return for the log the number of `tokens` and the `load` (layer -> tokens of each expert), without padding."""
    real_T, shape = batch.real_BT.flatten(), model.config
    ids = (routing.expert_ids_TK[real_T].flatten() for routing in tape.routings)
    counts = [torch.bincount(ids_N, minlength=shape.num_experts).tolist() for ids_N in ids]
    return {"tokens": int(real_T.sum()), "load": dict(zip(map(str, shape.moe_layers), counts, strict=True))}
