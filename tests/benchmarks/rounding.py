"""Print what rounding does to routing, in ten shapes, against what Compare calls a near tie or a change.

Four pairs of runs a shape, of random models: routers of noise in bf16 and in fp32 (nothing may be a near tie), the same
model in bf16 and fp32, and in fp32 at once and token by token (nothing may be a change). It also prints how far
rounding moved router logits, gate weights, residual norms and log-probabilities before the first split, in tolerances
(`model/trace/near_ties.py`) or in limits of `model/trace/earlier.py`, and how many decisions that calls different.

    python -m tests.benchmarks.rounding --tokens 160
"""

import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from model.checkpoint.weights import save_model
from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.run.engine import Engine
from model.run.request import Capture, RunRequest
from model.trace import near_ties
from model.trace.comparison import CHANGE, NEAR_TIE, Comparison, compare
from model.trace.earlier import NATS, differs_before
from model.trace.trace import Trace
from tests.models import random_model, tiny_config, with_noise

_SOFTMAX = {"model_type": "deepseek_v2", "scoring": "softmax", "normalise_weights": False, "selection": "greedy"}
_LIMITED = _SOFTMAX | {"selection": "group_limited_greedy"}


def _sizes(num_experts: int, top_k: int, num_groups: int = 1, num_kept_groups: int = 1) -> dict[str, int]:
    return dict(num_experts=num_experts, top_k=top_k, num_groups=num_groups, num_kept_groups=num_kept_groups)


SHAPES: dict[str, dict[str, Any]] = {
    "mini-v3": _sizes(32, 4, 4, 2),
    "16 experts": _sizes(16, 4, 4, 2),
    "Moonlight": _sizes(64, 6),
    "V2-Lite": _SOFTMAX | _sizes(64, 6),
    "GLM-4.5-Air": _sizes(128, 8),
    "V2": _LIMITED | _sizes(160, 6, 8, 3) | {"routed_scale": 16.0},
    "GLM-4.5": _sizes(160, 8),
    "V3": _sizes(256, 8, 8, 4),
    "GLM-5": _sizes(256, 8),
    "Kimi K2": _sizes(384, 8),
}
SEEN = Capture(frozenset({"router"}))
NEW = 60  # tokens that are generated one by one, then fed at once


def engine_of(model: Transformer, dtype: str) -> Engine:
    """Return an engine that loaded the model from a folder, as it loads any other."""
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, Path(folder), torch.float32)
        engine = Engine.load(folder, device="cpu", dtype=dtype)
        assert engine.description  # read now, while the folder exists
        return engine


def traced(engine: Engine, num_tokens: int) -> Trace:
    """Return the trace of as many random tokens, fed at once."""
    ids = torch.randint(2, 320, (num_tokens,), generator=torch.Generator().manual_seed(3)).tolist()
    return engine.run(RunRequest(token_ids=tuple(ids), capture=SEEN))


def in_both_ways(engine: Engine, num_tokens: int) -> tuple[Trace, Trace]:
    """Return two traces of one text: generated one by one through the cache, and fed at once."""
    ids = tuple(traced(engine, num_tokens - NEW).data["token_id"].values.tolist())
    decoded = engine.run(RunRequest(token_ids=ids, max_new_tokens=NEW, temperature=0.9, seed=1, capture=SEEN))
    fed = tuple(decoded.data["token_id"].values.tolist())
    return decoded, engine.run(RunRequest(token_ids=fed, capture=SEEN))


def near_ties_of_noise(config: ModelConfig, dtype: str, num_tokens: int) -> tuple[int, int]:
    """Return near ties and splits between two models that share everything but their routers."""
    found = compare(*(traced(engine_of(with_noise(config, seed), dtype), num_tokens) for seed in (1, 2)))
    return found.count(NEAR_TIE), int(found.is_split.sum())


def moved(found: Comparison) -> dict[str, float]:
    """Return how far rounding moved what comes before the first split, in the units in which its limits are stated."""
    split, layers = found.is_split, found.choices["moe_layer"].values.tolist()
    before = np.zeros_like(split)  # decisions with an earlier split, in this token or one before it
    before[:, 1:] = np.maximum.accumulate(np.maximum.accumulate(split, 0), 1)[:, :-1]
    limit, one, other = near_ties.tolerance(found.dtype), *(at.data.sel(moe_layer=layers) for at in (found.a, found.b))
    logits = [np.log(s) - np.log1p(-s) for s in (at["router_score"].values.clip(1e-7, 1 - 1e-7) for at in (one, other))]
    share = np.abs(logits[0] - logits[1]) / logits[0].std(-1, keepdims=True)
    weights = found.choices["weight_difference"].values / np.abs(one["gate_weight"].values).max(-1)
    norms = [trace.data["residual_norm"].values[:, 1:] for trace in (found.a, found.b)]
    norm = np.abs(norms[0] - norms[1]) / norms[0]
    free, same = ~before, ~(before | split)
    nats = np.abs(found.choices["logprob_difference"].values)[~np.maximum.accumulate(split.any(1))]
    return {
        "logit (99 %)": float(np.quantile(share[free], 0.99)) / limit,
        "logit": float(share[free].max()) / limit,
        "weight": float(np.nanmax(weights[same], initial=0)) / limit,
        "norm": float(norm[~np.maximum.accumulate(split.any(1))].max(initial=0)) / limit,
        "nats": float(np.nanmax(nats, initial=0)) / limit / NATS,
        "earlier": float((differs_before(found) & free).sum()),
    }


@click.command()
@click.option("--tokens", "num_tokens", default=160, show_default=True)
def main(num_tokens: int) -> None:
    """Print a row per shape and pair of runs."""
    click.echo("noise: near ties of splits; same model: changes and near ties of choices; largest moves in limits")
    for name, sizes in SHAPES.items():
        config = tiny_config(num_layers=5, expert_width=8, **sizes)
        for dtype in ("bfloat16", "float32"):
            near, split = near_ties_of_noise(config, dtype, num_tokens)
            click.echo(f"{name:<12} noise, {dtype:<8}  {near:>4} of {split:>4} near ties ({near / split:.2%})")
        model = random_model(config)
        exact = engine_of(model, "float32")
        pairs = {
            "bf16, fp32": (traced(engine_of(model, "bfloat16"), num_tokens), traced(exact, num_tokens)),
            "fp32, fp32": in_both_ways(exact, num_tokens),
        }
        for title, traces in pairs.items():
            found = compare(*traces)
            changes, near = found.count(CHANGE), found.count(NEAR_TIE)
            moves = ", ".join(f"{part} {value:.3g}" for part, value in moved(found).items())
            rates = f"{changes} changes ({changes / found.num_compared:.2%}), {near} near ties of {found.num_compared}"
            click.echo(f"{name:<12} {title}  {rates}; {moves}")


if __name__ == "__main__":
    main()
