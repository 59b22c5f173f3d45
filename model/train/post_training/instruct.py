"""Instruction tuning on pairs of a prompt and a response (pairs.py).

Shape suffixes: D model width, N positions in responses.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 5.1.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.network.transformer import Transformer
from model.train.config import InstructConfig, TrainConfig
from model.train.losses import cross_entropy
from model.train.minimise import Report
from model.train.post_training.pairs import Batch, Samples, read_pairs
from model.train.post_training.tuning import answer_shares, load_base_model, row_facts, run_stage
from model.train.tapes import RoutingTape


def response_loss(model: Transformer, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
    """Return the mean cross-entropy of the response tokens, and values for the log."""
    tape, counted_BT = RoutingTape(), batch.counted_BT
    normed_ND = model.norm(model.hidden(batch.ids_BT, tape=tape))[counted_BT]
    loss = cross_entropy(normed_ND[None].float(), model.head_weight, batch.targets_BT[counted_BT], torch.float32)
    facts = {"loss": float(loss.detach())} | row_facts(model, tape, batch)
    return loss, facts


def tune(
    instruct: InstructConfig,
    config: TrainConfig,
    pairs: Path,
    out: Path,
    report: Report = lambda line: None,
    heldout: Path | None = None,
    resume: bool = False,
) -> None:
    """Tune the base model on `pairs/train.jsonl.gz`, and write the tuned model to `out/model`.

    Args:
        instruct: base model, shares of the samples, and kinds of the evaluated pairs.
        config: all other settings.
        pairs: folder of `train.jsonl.gz` and `heldout.jsonl.gz`.
        out: folder of the run.
        report: called with each step's log line.
        heldout: folder whose `heldout.jsonl.gz` is answered at evaluations; None: `pairs`.
        resume: continue from the state in `out`.
    """
    folder, framing, model = load_base_model(instruct.start, config)
    samples = Samples(read_pairs(pairs / "train.jsonl.gz"), framing, config.sequence_length, instruct.shares)
    compared = read_pairs((heldout or pairs) / "heldout.jsonl.gz", instruct.kinds)

    def loss(batch: Batch, step: int) -> tuple[Tensor, dict[str, Any]]:
        return response_loss(model, batch)

    def measure(model: Transformer) -> dict[str, Any]:
        return {"answers": answer_shares(model, framing, compared)}

    run_stage(model, folder, loss, config, samples, out, measure, report, resume)
