"""The lines in which `trace` describes a run."""

from typing import TYPE_CHECKING

from model.trace.metrics import dead_experts, max_violation, relative_load, surprisal_in_words, tokens_per_expert

if TYPE_CHECKING:
    from model.trace.trace import Trace


def run_report(run: "Trace", seconds: float) -> list[str]:
    """Return lines on tokens, time and surprisal of a run, and on the load of each MoE layer if it is known."""
    return [_run_line(run, seconds), *_layer_table(run)]


def _run_line(run: "Trace", seconds: float) -> str:
    num_prompt = int(run.prompt_mask.sum())
    where = f"{run.model['name']} on {run.origin['device']}, {run.origin['dtype']}"
    counts = f"{run.num_tokens} tokens ({num_prompt} of the prompt, {run.num_tokens - num_prompt} new)"
    line = f"{where}: {counts} in {seconds:.3g} s"
    means = surprisal_in_words(run.data["logprob"], run.prompt_mask)
    return f"{line}, mean surprisal {' and '.join(means)}" if means else line


def _layer_table(run: "Trace") -> list[str]:
    """Return a table of the load in each MoE layer, over all tokens of the run; empty if routing was not recorded."""
    if not run.has("expert_id"):
        return []
    counts = tokens_per_expert(run.data["expert_id"], run.shape.num_experts or 1)
    load, violation, dead = relative_load(counts), max_violation(counts), dead_experts(counts)
    rows = [f"{'layer':>5}  {'MaxVio':>6}  {'busiest':>9}  {'ratio to uniform':>16}  {'without a token':>15}"]
    for layer in counts["moe_layer"].values:
        at = load.sel(moe_layer=layer)
        busiest = f"L{layer}E{int(at.values.argmax())}"
        idle = f"{int(dead.sel(moe_layer=layer).sum())} of {counts.sizes['expert']}"
        worst = float(violation.sel(moe_layer=layer))
        rows.append(f"{layer:>5}  {worst:>6.2f}  {busiest:>9}  {float(at.max()):>16.2f}  {idle:>15}")
    return rows
