"""Check a plan by running it: the model with the cut experts knocked out, beside random cuts of the same size.

Every variant reads the same documents, which the sweep does not hold. The harm of a variant is the bits per byte that
it adds; its routing damage is measured by the figures of `model/trace/rollout.py`, on the same tokens. Each variant is
written to a file beside the plan when it is finished, so that a stopped check goes on.

Shape suffixes: L MoE layers, E experts.
"""

import dataclasses
import hashlib
import heapq
import json
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.atlas.plan import random_cut
from model.atlas.plan_file import Plan
from model.checkpoint.tokenizer import TokenizerError
from model.network.edit import RoutingEdit
from model.run.engine import Engine
from model.run.interventions import KnockOut
from model.run.routing_edit import routing_edit
from model.sweep.network import NetworkSource
from model.sweep.plan_report import AS_TRAINED, PLANNED, report
from model.sweep.plan_runs import Log, Runs
from model.sweep.routing import doc_id, encode
from model.sweep.settings import Settings, SweepError
from model.sweep.texts import Bad, Document, find_files, read_documents
from model.trace.documents import FEWEST

_BYTES_PER_TOKEN = 8  # more than any text needs; bounds how many documents are held


@dataclasses.dataclass(frozen=True)
class Request:
    """What is checked on: `tokens` is about how many tokens, `controls` the number of random plans."""

    model: str
    paths: tuple[Path, ...]
    tokens: int = 50_000
    controls: int = 20
    batch_tokens: int = 2048
    device: str = "auto"
    dtype: str = "float32"


def check(
    plan: Plan,
    request: Request,
    swept: Collection[str],
    log: Path,
    on_progress: Callable[[int, int, float], None] = lambda done, all_, seconds: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> dict[str, Any]:
    """Return the results of the check, as `plan_report.report` describes them.

    Args:
        plan: the plan.
        request: what is checked on.
        swept: ids of the documents that the plan was made from; they are left out.
        log: file of the finished variants; removed at the end.
        on_progress: called after each variant with the number of finished ones, of all, and the seconds of the last.
        on_note: called with a sentence that the user should see.

    Raises:
        SweepError: the model or the texts do not fit.
        ValueError, OSError: the model cannot be loaded, a file cannot be read or written.
    """
    documents, left_out = choose(request, swept)
    engine, source = _open(plan, request)
    token_ids = [ids for document in documents if (ids := _encoded(source, document)) is not None]
    token_ids = token_ids[: _enough([len(ids) for ids in token_ids], request.tokens)]
    if len(token_ids) < FEWEST:
        raise SweepError(
            f"a check needs at least {FEWEST} documents that the sweep does not hold, not {len(token_ids)}"
        )
    cuts = {AS_TRAINED: np.zeros_like(plan.cut_LE), PLANNED: plan.cut_LE}
    groups = plan.entries["groups"]["number"]
    for seed in range(request.controls):
        cuts[f"random {seed + 1}"] = random_cut(plan.cut_LE.shape, groups, plan.number, seed)
    edits = {name: _edit(plan.layers, cut_LE, engine) for name, cut_LE in cuts.items()}
    finished = Log(log, _identity(plan, request, token_ids, source), on_note)
    runs = Runs(source, token_ids, request.batch_tokens)
    for number, (name, edit) in enumerate(edits.items(), 1):
        started = time.monotonic()
        if name not in finished.variants:
            finished.add(name, runs.sums(edit))
        on_progress(number, len(edits), time.monotonic() - started)
    about = {
        "texts": [path.name for path in request.paths], "documents_left_out_as_swept": left_out,
        "model": source.description["name"], **source.origin,
        "same_weights": source.description["weights_sha256"] == plan.entries["model"]["weights_sha256"],
    }  # fmt: skip
    result = report(finished.variants, plan.layers, about)
    finished.remove()
    return result


# --- the model and its cuts -------------------------------------------------------------------------------------------


def _open(plan: Plan, request: Request) -> tuple[Engine, NetworkSource]:
    from model.families.choose import load

    engine = load(request.model, device=request.device, dtype=request.dtype)
    if not isinstance(engine, Engine):
        raise SweepError(
            f"{request.model} runs by transformers, where no expert can be knocked out for whole documents"
        )
    if engine.tokenizer is None:
        raise SweepError(f"{request.model} has no tokenizer.json, so texts cannot be encoded")
    source = NetworkSource(engine, engine.tokenizer, bits=True)
    found = tuple(source.layers), source.num_experts
    if found != (plan.layers, plan.cut_LE.shape[1]):
        raise SweepError(
            f"{request.model} has {found[1]} experts in {len(found[0])} layers, the plan is for {plan.cut_LE.shape[1]} "
            f"in {len(plan.layers)}; check the model that was swept"
        )
    return engine, source


def _edit(layers: Sequence[int], cut_LE: np.ndarray, engine: Engine) -> RoutingEdit | None:
    changes = [KnockOut(layers[index], expert) for index, expert in np.argwhere(cut_LE).tolist()]
    return routing_edit(changes, engine.config, engine.device)


# --- documents --------------------------------------------------------------------------------------------------------


def choose(request: Request, swept: Collection[str]) -> tuple[list[Document], int]:
    """Return documents in the order of their ids, which are random, and the number left out because they were swept.

    Only as many documents are held in memory as the tokens of the request can need.

    Raises:
        SweepError: a path does not exist, holds no text, or is damaged.
    """
    settings = Settings(request.model, tuple(map(str, request.paths)), "")
    chosen: dict[str, Document] = {}
    order: list[tuple[int, str]] = []  # a heap with the largest id first
    held, left_out, budget = 0, 0, request.tokens * _BYTES_PER_TOKEN
    for path in find_files(request.paths):
        for document in read_documents(path, settings):
            if isinstance(document, Bad) or (name := doc_id(document)) in chosen:
                continue
            if name in swept:
                left_out += 1
                continue
            chosen[name] = document
            heapq.heappush(order, (-int(name, 16), name))
            held += len(document.text)
            while len(order) > FEWEST and held - len(chosen[order[0][1]].text) > budget:
                held -= len(chosen.pop(heapq.heappop(order)[1]).text)
    return [chosen[name] for name in sorted(chosen)], left_out


def _encoded(source: NetworkSource, document: Document) -> np.ndarray | None:
    try:
        ids = encode(source.tokenizer, document)
    except TokenizerError:
        return None
    return ids if len(ids) > len(source.tokenizer.first_ids) else None


def _enough(sizes: Sequence[int], tokens: int) -> int:
    """Return how many of the documents reach the number of tokens, at least `FEWEST`."""
    return max(FEWEST, int(np.searchsorted(np.cumsum(sizes), tokens)) + 1)


def _identity(plan: Plan, request: Request, token_ids: Sequence[np.ndarray], source: NetworkSource) -> str:
    """Return a hash of what the numbers depend on."""
    stated = [plan.cut_LE.tolist(), [ids.tolist() for ids in token_ids], request.batch_tokens, dict(source.origin)]
    stated.append(source.description["weights_sha256"])
    return hashlib.sha256(json.dumps(stated).encode()).hexdigest()
