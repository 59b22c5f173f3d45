"""The second stage of an audit: runs texts in fp32 and in bfloat16, and judges their routing.

The own network or transformers runs the model. If there is a reference, the own network also runs the reference's
tokens, and this run is compared with the reference. A model that does not fit in memory is read from disk; all prompts
then form one run, so that each layer is read once.
"""

import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from model.checkpoint.header import SCALED_DTYPE
from model.checkpoint.memory import fits_gpu, memory_bytes
from model.checkpoint.sizes import model_sizes
from model.checkpoint.weights import inspect, weight_bytes
from model.doctor import load, prediction, ranking, reference
from model.doctor.exchange import Exchange, exchanged
from model.doctor.findings import ERROR, Check, Finding, Number, Report, make_report
from model.doctor.prompts import Prompt, PromptsError
from model.run.engine import DTYPES, Engine
from model.run.from_disk import Stopped
from model.run.request import RunRequest
from model.trace.consistency import faults
from model.trace.observed_rule import rule_of
from model.trace.router_rule import RouterRule
from model.trace.trace import Trace

if TYPE_CHECKING:
    from model.families.engine import TransformersEngine

STAGE, SOUND = "text", "own numbers"
ROUTED = ("router_score", "router_logit", "group_score", "group_kept", "expert_id")
_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16"}  # of dtypes, in the progress
_NO_REFERENCE = (
    "the check that finds a fault from a healthy run exchanges experts of the own network; compare two traces of this "
    "model with `python -m model compare`"
)
FEWEST_TOKENS = 200  # below this the report warns that shares say little


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """The progress of the second stage of an audit, which runs texts."""

    done: int  # number of finished runs
    count: int  # number of all runs
    doing: str
    trace: Trace | None = None  # of the run that just ended

    @property
    def share(self) -> float:
        """The share of runs that are finished."""
        return self.done / max(1, self.count)


def examine_text(
    engine: "Engine | TransformersEngine",
    prompts: Sequence[Prompt],
    healthy: Trace | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    cancel: threading.Event | None = None,
) -> Report:
    """Return the report on the routing of prompts and, if there is a reference, on the comparison with it.

    Args:
        engine: the model. With a reference, weights of two experts may be exchanged during a run; no other caller may
            use the engine at the same time.
        prompts: the prompts to run; at least one, unless there is a reference.
        healthy: the reference, a trace of the healthy model; None: no comparison.
        on_progress: called before the first run and after each run.
        cancel: stops the stage once it is set; checked before each run.

    Raises:
        PromptsError, RequestError: a prompt cannot be run; the message says which prompt.
        UnusableReferenceError: the reference is of another model, or lacks variables.
        Stopped: `cancel` was set.
    """
    if healthy is not None:
        _check_reference(engine, healthy)
    if not engine.shape.moe_layers:
        skipped = Check(load.LOAD, STAGE, "", skipped="the model has no MoE layers, so nothing is routed")
        return make_report(engine.name, [skipped], [])
    requests = _requests(engine, prompts)
    runs = _Runs(2 * len(requests) + (healthy is not None), on_progress, cancel)
    checks: list[Check] = []
    findings: list[Finding] = []
    measures: dict[str, list[dict[str, Number]]] = {}
    if requests:
        exact = _exact(engine)
        traces = [runs.run(exact, request, _NAMES.get(exact.dtype, "fp32")) for request in requests]
        rounded = _rounded(engine, exact)
        others = [] if rounded is None else [runs.run(rounded, request, "bf16") for request in requests]
        del exact, rounded
        routed = _routed(engine, traces, others)
        if not routed.data.sizes["token"]:
            raise PromptsError("the prompts hold special tokens only; give some text")
        measures["Routing layer by layer"] = load.measure(routed)
        findings += [*load.judge(routed), *ranking.check_ranking(routed), *_contradictions(traces)]
        findings += prediction.check_prediction(traces, _embedding(engine))
        checks += _checks(routed, traces[0], len(prompts))
    if not isinstance(engine, Engine):
        checks.append(Check(reference.NAME, "reference", "", skipped=_NO_REFERENCE))
    elif healthy is not None:
        compared, more = _compare(engine, healthy, runs)
        checks.append(compared)
        findings += more
    texts = tuple(prompt.text if prompt.text is not None else f"ids {prompt.ids}" for prompt in prompts)
    return make_report(engine.name, checks, findings, measures, texts)


class _Runs:
    """Runs requests one after the other, and reports progress."""

    def __init__(self, count: int, on_progress: Callable[[Progress], None], cancel: threading.Event | None) -> None:
        self.count, self.on_progress, self.cancel, self.done = count, on_progress, cancel, 0
        on_progress(Progress(0, count, "loading"))

    def run(self, engine: "Engine | TransformersEngine", request: RunRequest, doing: str) -> Trace:
        if self.cancel is not None and self.cancel.is_set():
            raise Stopped(f"stopped after {self.done} of {self.count} runs")
        trace = engine.run(request, self.cancel)
        self.done += 1
        self.on_progress(Progress(self.done, self.count, doing, trace))
        return trace


def _requests(engine: "Engine | TransformersEngine", prompts: Sequence[Prompt]) -> list[RunRequest]:
    """Return one request per prompt, or, for a model that runs from disk, a single request with all prompts joined.

    Each request is truncated to the context length.
    """
    made: list[list[int]] = []
    for number, prompt in enumerate(prompts, 1):
        ids = list(prompt.ids) if prompt.ids is not None else _encode(engine, prompt, number)
        if outside := [i for i in ids if not 0 <= i < engine.shape.vocab_size]:
            raise PromptsError(
                f"prompt {number} holds token id {outside[0]}; ids are 0 to {engine.shape.vocab_size - 1}"
            )
        made.append(ids)
    if engine.abilities.exclusive and made:
        made = [[token for ids in made for token in ids]]
    return [RunRequest(token_ids=tuple(ids[: engine.context])) for ids in made]


def _encode(engine: "Engine | TransformersEngine", prompt: Prompt, number: int) -> list[int]:
    if engine.tokenizer is None:
        raise PromptsError(f'{engine.name} has no readable tokenizer.json; give prompts as JSON lines with "ids"')
    try:
        return [*engine.tokenizer.first_ids, *engine.tokenizer.encode(prompt.text or "")]
    except ValueError as problem:
        raise PromptsError(f"prompt {number}: {problem}") from None


def _again(engine: Engine, dtype: str) -> Engine:
    """Return an engine of the same model in `dtype`; the new engine runs from disk if memory cannot hold both."""
    memory, sizes = memory_bytes(), model_sizes(engine.config).loaded
    if engine.device.type == "cuda":
        fits = fits_gpu(weight_bytes(engine.config, DTYPES[dtype]), engine.device)
    else:
        fits = memory is None or sizes["float32"] + sizes["bfloat16"] < memory * 0.8
    read = Engine.load if engine.disk is None and fits else Engine.from_disk
    return read(engine.folder, device=str(engine.device), dtype=dtype, with_text=engine.tokenizer is not None)


def _exact(engine: "Engine | TransformersEngine") -> "Engine | TransformersEngine":
    """Return the engine in fp32; the given one if memory has no room for another."""
    if isinstance(engine, Engine):
        return engine
    from model.doctor.precision import in_fp32

    return in_fp32(engine)


def _rounded(
    engine: "Engine | TransformersEngine", exact: "Engine | TransformersEngine"
) -> "Engine | TransformersEngine | None":
    """Return the engine in 16 bits; None if memory has no room for it."""
    if isinstance(engine, Engine) or isinstance(exact, Engine):
        return _again(engine, "bfloat16") if isinstance(engine, Engine) else None
    from model.doctor.precision import in_16_bits

    return in_16_bits(engine, exact)


def _embedding(engine: "Engine | TransformersEngine") -> torch.Tensor:
    if isinstance(engine, Engine):
        return engine.model.embedding.weight
    embedding: Any = engine.model.get_input_embeddings()
    return embedding.weight


def _routed(engine: "Engine | TransformersEngine", traces: list[Trace], others: list[Trace]) -> load.Routed:
    """Return the routing of all tokens of the text, and what is known of the router."""
    data, rounded = joined(traces), joined(others) if others else None
    if isinstance(engine, Engine):
        return load.Routed(data, RouterRule.of(engine.config.to_json()), rounded)
    shape, routers = traces[0].shape, [trace.router for trace in traces]
    is_known = all(router is not None and router.rule is not None for router in routers)
    rule = rule_of(traces[0]) if is_known else None
    return load.Routed(
        data,
        rule or RouterRule(num_experts=engine.shape.num_experts, top_k=engine.shape.top_k, has_selection_bias=False),
        rounded,
        is_known=is_known,
        table_layers=routers[0].table_layers if routers[0] is not None else (),
        idle_from=shape.idle_from,
    )


def joined(traces: Sequence[Trace]) -> xr.Dataset:
    """Return the routing of all tokens except special tokens, from all traces, with the biases of the first trace."""
    of_text = [np.flatnonzero(~trace.special_mask.values) for trace in traces]
    parts = [trace.data.isel(token=text_tokens) for trace, text_tokens in zip(traces, of_text, strict=True)]
    recorded = [name for name in ROUTED if all(name in part for part in parts)]
    whole = {name: xr.concat([part[name] for part in parts], "token") for name in recorded}
    bias = {"expert_bias": traces[0].data["expert_bias"]} if "expert_bias" in traces[0].data else {}
    return xr.Dataset(whole | bias)


def _contradictions(traces: Sequence[Trace]) -> list[Finding]:
    """Return the findings on weights and selections that contradict the recorded affinities."""
    contradictions = [fault for trace in traces for fault in faults(trace)]
    return [
        Finding(
            ERROR, SOUND, f"L{fault.layers[0]}: {fault.kind}; {fault.evidence}",
            "The router does not follow the published rule. A fault of the engine, not of the checkpoint.",
            {"decisions": fault.decisions, "of": fault.of}, fault.layers[0],
        )
        for fault in {fault.kind: fault for fault in reversed(contradictions)}.values()
    ]  # fmt: skip


def _checks(routed: load.Routed, trace: Trace, num_prompts: int) -> list[Check]:
    """Return the checks of a text; those that need scores are skipped if the router's rule is not known."""
    layers, num_tokens = tuple(routed.data["moe_layer"].values.tolist()), routed.data.sizes["token"]
    text = f"{num_tokens:,} tokens of {num_prompts:,} prompts"
    few = f" (few: shares say little under {FEWEST_TOKENS})" if num_tokens < FEWEST_TOKENS else ""
    by_score = tuple(routed.decided["moe_layer"].values.tolist())
    note = trace.router.note if trace.router else None
    unknown = "" if routed.is_known else f"the router's rule is not known: {note or 'no rule gives these experts'}"
    groups = unknown or ("" if routed.rule.num_kept_groups < routed.rule.num_groups else "the router has no groups")
    bias = unknown or ("" if routed.rule.has_selection_bias else "the router has no selection bias")
    twice = "" if routed.rounded is not None else "memory does not hold the model in fp32 and in bfloat16"

    def scored(name: str, looked_at: str, skipped: str = unknown) -> Check:
        return Check(name, STAGE, "" if skipped else looked_at, () if skipped else by_score, skipped)

    return [
        Check(load.LOAD, STAGE, f"share of every expert over {text}{few}", layers),
        scored(load.GROUPS, f"groups kept over {text}", groups),
        scored(load.SCORES, f"affinities of {text}"),
        scored(load.TIES, f"margins of the last expert and group chosen, over {text}"),
        scored(ranking.NAME, f"experts selected by scores in bfloat16, over {text}", bias),
        Check(load.ROUNDING, STAGE, "" if twice else f"{text}, run twice", () if twice else layers, twice),
        Check(prediction.NAME, STAGE, f"mean surprisal of {text} against a guess"),
        scored(SOUND, f"weights and choices against the recorded affinities of {text}"),
    ]


# --- the reference ---------------------------------------------------------------------------------------------------


def _check_reference(engine: "Engine | TransformersEngine", healthy: Trace) -> None:
    if not isinstance(engine, Engine):
        raise reference.UnusableReferenceError(f"{engine.name} runs through transformers, but {_NO_REFERENCE}")
    reference.check_reference(healthy, engine.config.to_json())


def _compare(engine: Engine, healthy: Trace, runs: _Runs) -> tuple[Check, list[Finding]]:
    compared = f"bias, affinities, weights and norms of {healthy.num_tokens:,} tokens against the reference"
    check = Check(reference.NAME, "reference", compared, engine.config.moe_layers)
    if findings := reference.other_routing(healthy, engine.config.to_json()):
        return check, findings
    dtype = healthy.origin.get("dtype")
    is_other = isinstance(dtype, str) and DTYPES.get(dtype, engine.dtype) != engine.dtype
    like = _again(engine, str(dtype)) if is_other else engine
    request = RunRequest(token_ids=tuple(token.id for token in healthy.tokens))
    ours = runs.run(like, request, "reference")
    audited = reference.Audited(
        encode=lambda: _encoded_again(engine, healthy),
        exchange=None if like.disk is not None else lambda layer, change: _exchanged(like, request, layer, change),
        in_16_bits=like.dtype != torch.float32,
        in_fp8=_in_fp8(engine),
    )
    return check, list(reference.compare_with(healthy, ours, audited))


def _encoded_again(engine: Engine, healthy: Trace) -> list[int] | None:
    """Return the ids of the reference's prompt by the model's tokenizer; None if the prompt is no plain text."""
    prompt = healthy.request.get("prompt")
    if engine.tokenizer is None or not isinstance(prompt, str) or healthy.request.get("chat"):
        return None
    if healthy.request.get("token_ids") is not None:
        return None
    try:
        return engine.encode(RunRequest(prompt=prompt))
    except ValueError:
        return []


def _in_fp8(engine: Engine) -> bool:
    """Return whether the folder stores weights in FP8."""
    return any(stored.dtype == SCALED_DTYPE for stored in inspect(engine.folder).stored.values())


def _exchanged(engine: Engine, request: RunRequest, layer: int, exchange: Exchange) -> np.ndarray:
    """Return the residual norms of a run with an exchange of weights in one layer, and restore the weights."""
    mixture: Any = engine.model.block(layer).ffn
    with exchanged(mixture, exchange):
        norms: Any = engine.run(request).data["residual_norm"].values
    return norms
