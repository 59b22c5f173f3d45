"""What a configuration states about a router, and the notes on a rule that was found by search.

The keys are those of the families of transformers. A family may ignore a key, so the recorded routing decides, and a
note names the contradiction.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from model.trace.router_rule import SCORINGS, RouterRule

_SCORING_KEYS = ("scoring_func", "score_function", "expert_selection_fn")
_NORMALISE_KEYS = ("norm_topk_prob", "moe_renormalize", "route_norm")
_GROUP_KEYS, _KEPT_KEYS = ("n_group", "num_expert_group"), ("topk_group", "num_limited_groups")

_SCALE_ENDINGS = ("scaling_factor", "route_scale")

_SCORES_PER_GROUP = {"noaux_tc": 2, "group_limited_greedy": 1}  # by topk_method

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
    scales = [value for key, value in config.items() if key.endswith(_SCALE_ENDINGS)]
    return [float(value) for value in scales if isinstance(value, int | float) and value > 0]


def stated_rule(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of a configuration that state the router's rule, with their values.

    >>> stated_rule({"norm_topk_prob": True, "routed_scaling_factor": 2.5, "hidden_size": 64})
    ('norm_topk_prob true', 'routed_scaling_factor 2.5')
    """
    keys = [key for key in (*_SCORING_KEYS, *_NORMALISE_KEYS, "topk_method") if config.get(key) is not None]
    keys += [key for key in config if key.endswith(_SCALE_ENDINGS) and "rout" in key]
    stated = {key: config[key] for key in keys if isinstance(config[key], str | int | float)}
    return tuple(f"{key} {value if isinstance(value, str) else json.dumps(value)}" for key, value in stated.items())


def contradictions(rule: RouterRule, config: Mapping[str, Any]) -> list[str]:
    """Return a sentence, without a stop, for each key of the configuration that contradicts the rule."""
    texts = []
    for key in _SCORING_KEYS:
        if config.get(key) in list(SCORINGS) and config[key] != rule.scoring:
            texts.append(f"the probe run follows {rule.scoring}, although the configuration states {key} {config[key]}")
    for key in _NORMALISE_KEYS:
        if isinstance(config.get(key), bool) and rule.normalise_weights is (not config[key]):
            found = "normalised" if rule.normalise_weights else "not normalised"
            stated = json.dumps(config[key])
            texts.append(
                f"the gate weights of the probe run are {found}, although the configuration states {key} {stated}"
            )
    groups, method = stated_groups(config), str(config.get("topk_method"))
    if rule.num_groups == 1 and groups and groups[1] < groups[0] and method != "greedy":
        texts.append(
            f"the probe run has no group limit, although the configuration states {groups[0]} groups of experts"
        )
    if rule.num_groups > 1 and _SCORES_PER_GROUP.get(method, rule.scores_per_group) != rule.scores_per_group:
        number = {1: "best expert", 2: "two best experts"}[rule.scores_per_group]
        texts.append(
            f"the probe run scores a group by its {number}, although the configuration states topk_method {method}"
        )
    return texts


def notes_on(rule: RouterRule, fitting: Iterable[RouterRule], config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return sentences, without a stop, on what only the probe shows and on what it does not decide.

    They name contradictions to the configuration and a factor that it does not state, too.

    Args:
        rule: the rule that the app uses.
        fitting: all rules that fit the probe.
        config: the configuration of the text model.
    """
    notes, fitting = contradictions(rule, config), list(fitting)
    if rule.routed_scale not in (None, 1.0, *stated_scales(config)):
        notes.append(
            f"the factor {rule.routed_scale:g} of the gate weights is measured in the probe run; the configuration "
            "does not state it"
        )
    for field, name in _NAMES.items():
        used = getattr(rule, field)
        others = sorted({_word(getattr(other, field)) for other in fitting} - {_word(used)})
        if others:
            listed = " or ".join([_word(used), *others])
            notes.append(f"the probe run does not decide {name}: {listed}; the app uses {_word(used)}")
    return tuple(notes)


def _word(value: Any) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
