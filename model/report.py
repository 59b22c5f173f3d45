"""What the command line prints: a run in a few lines, and a model folder described from its headers."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from model.checkpoint.header import printable
from model.checkpoint.names import count_parameters
from model.network.cache import LatentCache
from model.trace.metrics import dead_experts, max_violation, relative_load, surprisal_bits, tokens_per_expert

if TYPE_CHECKING:
    from model.checkpoint.weights import Manifest
    from model.trace.trace import Trace

_LISTED_NAMES = 50


def run_report(run: "Trace", seconds: float) -> list[str]:
    """Tokens, time and surprisal of a run, and, where the router was captured, the load of each mixture layer."""
    return [_run_line(run, seconds), *_layer_table(run)]


def _run_line(run: "Trace", seconds: float) -> str:
    num_prompt = int(run.prompt_mask.sum())
    where = f"{run.model['name']} on {run.origin['device']}, {run.origin['dtype']}"
    counts = f"{run.num_tokens} tokens ({num_prompt} of the prompt, {run.num_tokens - num_prompt} new)"
    line = f"{where}: {counts} in {seconds:.3g} s"
    bits = surprisal_bits(run.data["logprob"])
    return line if run.num_tokens < 2 else f"{line}, mean surprisal {float(bits.mean()):.3g} bit"


def _layer_table(run: "Trace") -> list[str]:
    """Load of each mixture layer over all tokens of the run."""
    if not run.has("expert_id"):
        return []
    counts = tokens_per_expert(run.data["expert_id"], run.data.sizes["expert"])
    load, violation, dead = relative_load(counts), max_violation(counts), dead_experts(counts)
    rows = [f"{'layer':>5}  {'MaxVio':>6}  {'busiest':>9}  {'ratio to uniform':>16}  {'without a token':>15}"]
    for layer in counts["moe_layer"].values:
        at = load.sel(moe_layer=layer)
        busiest = f"L{layer}E{int(at.values.argmax())}"
        idle = f"{int(dead.sel(moe_layer=layer).sum())} of {counts.sizes['expert']}"
        worst = float(violation.sel(moe_layer=layer))
        rows.append(f"{layer:>5}  {worst:>6.2f}  {busiest:>9}  {float(at.max()):>16.2f}  {idle:>15}")
    return rows


def folder_report(manifest: "Manifest", folder: Path) -> list[str]:
    """Shape, size, what is supported, and what is skipped."""
    return [
        *_describe_shape(manifest),
        *_describe_size(manifest),
        f"tokenizer    {'tokenizer.json' if (folder / 'tokenizer.json').is_file() else 'none: token ids only'}",
        *_describe_support(manifest),
    ]


def _describe_shape(manifest: "Manifest") -> list[str]:
    config = manifest.config
    queries = "full" if config.q_lora_rank is None else f"rank {config.q_lora_rank}"
    context = f"{config.max_positions:,} tokens" + (f" (YaRN x{config.yarn.factor:g})" if config.yarn else "")
    experts = f"{config.num_experts} routed of width {config.expert_width} in {config.num_groups} groups"
    return [
        f"model        {config.model_type}, {config.num_layers} layers, the first {config.num_dense_layers} dense",
        f"width        {config.hidden_size}, vocabulary {config.vocab_size:,}, context {context}",
        f"attention    {config.num_heads} heads, queries {queries}, latent {config.kv_lora_rank}",
        f"experts      {experts}, {config.num_shared_experts} shared",
        f"router       top {config.top_k} of {config.num_kept_groups} kept groups, scale {config.routed_scale:g}",
    ]


def _describe_size(manifest: "Manifest") -> list[str]:
    total, active = count_parameters(manifest.config)
    head = "the shared embedding and head" if manifest.config.tie_embeddings else "embedding and head"
    stored = sum(tensor.num_bytes for tensor in manifest.present)
    dtypes = ", ".join(sorted({tensor.dtype for tensor in manifest.present}))
    meta = torch.device("meta")
    half, full = (LatentCache(manifest.config, 1, meta, d).bytes_per_token for d in (torch.bfloat16, torch.float32))
    return [
        f"parameters   {total:,} in total, {active:,} active for a token, {head} counted",
        f"weights      {len(manifest.present):,} tensors, {stored:,} bytes, {dtypes}",
        f"cache        {half:,} bytes per token in bfloat16, {full:,} in float32",
    ]


def _describe_support(manifest: "Manifest") -> list[str]:
    verdict = (
        "no" if manifest.problems else "yes; capture router, attention, inputs, logits; float32, bfloat16, float16"
    )
    lines = [f"supported    {verdict}"]
    if manifest.mtp:
        number = manifest.config.num_layers
        lines.append(f"skipped      {len(manifest.mtp):,} tensors of layer {number}, multi-token prediction")
    if manifest.surplus:
        lines.append(f"skipped      {len(manifest.surplus):,} tensors that the configuration does not account for:")
        lines += [f"             {printable(name)}" for name in manifest.surplus[:_LISTED_NAMES]]
        hidden = len(manifest.surplus) - _LISTED_NAMES
        lines += [f"             and {hidden:,} more"] if hidden > 0 else []
    return lines
