"""What a configuration states about a router, and the notes on a rule that was found by search.

The names are those that families of transformers share. A key that no family reads is rare, but a family may ignore a
key: the recorded routing decides, and a note names the contradiction.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from model.trace.router_rule import SCORINGS, RouterRule

_SCORING_KEYS = ("scoring_func", "score_function", "expert_selection_fn")
_NORMALISE_KEYS = ("norm_topk_prob", "moe_renormalize", "route_norm")
_GROUP_KEYS, _KEPT_KEYS = ("n_group", "num_expert_group"), ("topk_group", "num_limited_groups")

# Field of a rule -> what a note calls it.
_NAMES = {
    "scoring": "the scoring function",
    "has_selection_bias": "whether a bias is added",
    "bias_on_logits": "whether the bias is added to logits",
    "num_kept_groups": "how many groups of experts are kept",
    "scores_per_group": "how many experts score a group",
    "normalise_weights": "whether gate weights are normalised",
    "has_expert_factor": "whether each expert has a factor",
}


def stated_groups(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the numbers of groups and of kept groups that a configuration states, or None."""
    number, kept = (next((config[key] for key in keys if key in config), None) for keys in (_GROUP_KEYS, _KEPT_KEYS))
    return (number, kept) if isinstance(number, int) and isinstance(kept, int) and 1 <= kept <= number else None


def stated_scales(config: Mapping[str, Any]) -> list[float]:
    """Return the numbers that a configuration states for a factor of the gate weights."""
    scales = [value for key, value in config.items() if key.endswith(("scaling_factor", "route_scale"))]
    return [float(value) for value in scales if isinstance(value, int | float) and value > 0]


def contradictions(rule: RouterRule, config: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each key of the configuration that contradicts the rule."""
    stated: list[tuple[str, Any, Any]] = [(key, config.get(key), rule.scoring) for key in _SCORING_KEYS]
    stated = [entry for entry in stated if entry[1] in SCORINGS]
    if rule.normalise_weights is not None:
        values = [(key, config.get(key), rule.normalise_weights) for key in _NORMALISE_KEYS]
        stated += [entry for entry in values if isinstance(entry[1], bool)]
    texts = [_contradiction(key, value, found) for key, value, found in stated if value != found]
    groups = stated_groups(config)
    if groups and groups[1] < groups[0] and config.get("topk_method") != "greedy" and rule.num_groups == 1:
        texts.append(f"The configuration states {groups[0]} groups of experts, but the first run used no group limit.")
    return texts


def notes_on(rule: RouterRule, fitting: Iterable[RouterRule], config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return sentences for the page: what contradicts the configuration, and what the probe does not decide.

    Args:
        rule: the rule that the app uses.
        fitting: all rules that fit the probe.
        config: the configuration of the text model.
    """
    notes, fitting = contradictions(rule, config), list(fitting)
    for field, name in _NAMES.items():
        used = getattr(rule, field)
        others = sorted({_word(getattr(other, field)) for other in fitting} - {_word(used)})
        if others:
            listed = " or ".join([_word(used), *others])
            notes.append(f"The first run does not decide {name} ({listed}). The app uses: {_word(used)}.")
    return tuple(notes)


def _contradiction(key: str, value: Any, found: Any) -> str:
    return f"The configuration states {key} {_word(value)}, but the first run followed {_word(found)}."


def _word(value: Any) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
