"""Find the settings that differ between the configurations of two traces; the numbers 1 and 1.0 count as equal.

A rotary setting has one name here, whichever part of the configuration holds it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from model.trace.trace import Trace

# Keys that change no result, or whose values the arrays or the origin of a trace state too.
_NO_RESULT = frozenset(
    ("architectures", "auto_map", "transformers_version", "_name_or_path", "use_cache", "torch_dtype", "dtype",
     "initializer_range", "attention_dropout", "pretraining_tp", "ep_size", "seq_aux", "aux_loss_alpha",
     "router_aux_loss_coef", "output_router_logits", "max_position_embeddings", "bos_token_id", "eos_token_id",
     "pad_token_id", "num_nextn_predict_layers", "name_or_path", "tokenizer_class")
)  # fmt: skip
# Key -> its meaning in a configuration that does not state it.
_ABSENT = {"n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.0, "rope_theta": 10000.0, "attention_bias": False}
_ROPE, _ROPE_NAMES = ("rope_parameters", "rope_scaling"), {"rope_theta": "rope_theta", "rope_type": "rope type"}


def differing_settings(a: Trace, b: Trace) -> dict[str, tuple[Any, Any]]:
    """Return the configuration keys with different values, as (a, b) by key, the router's keys first.

    A key that one configuration does not state counts only if its default is known. The result is empty if a trace has
    no configuration.
    """
    if not a.config or not b.config:
        return {}
    one, other = (dict(_flat(trace.config)) for trace in (a, b))
    found = {}
    for key in sorted({*one, *other}, key=_order):
        absent = _ABSENT.get(key)
        values = one.get(key, absent), other.get(key, absent)
        if values[0] != values[1] and None not in values:
            found[key] = values
    return found


def about_settings(a: Trace, b: Trace) -> Iterator[str]:
    """Yield a sentence that names the differing settings; nothing if all agree."""
    found = differing_settings(a, b)
    if found:
        values = ", ".join(f"{key} ({_brief(one)} in A, {_brief(other)} in B)" for key, (one, other) in found.items())
        yield f"The configurations differ in {values}. Everything below may follow from that."


def _brief(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 40 else f"{value!r:.37}..."


def _flat(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if key in _ROPE and isinstance(value, Mapping):
            for name, inner in value.items():
                yield _ROPE_NAMES.get(name, f"rope {name}"), inner
        elif key not in _NO_RESULT:
            yield key, value


def _order(key: str) -> tuple[bool, str]:
    """Return a sort key that puts the router's settings first."""
    return not any(part in key for part in ("rout", "topk", "group", "expert", "scor")), key
