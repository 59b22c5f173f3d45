"""The interventions of a run in words."""

from collections.abc import Mapping
from typing import Any

from model.trace.trace import Trace


def in_words(trace: Trace) -> list[str]:
    """Return a phrase for each intervention of a run. A trace file may hold any name, so callers escape the phrases."""
    return [_phrase(change) for change in trace.interventions]


def _phrase(change: Mapping[str, Any]) -> str:
    layer, where = change.get("layer"), "" if change.get("layer") is None else f" in L{change['layer']}"
    phrases = {
        "KnockOut": f"L{layer}E{change.get('expert')} knocked out",
        "ForceExpert": f"L{layer}E{change.get('expert')} forced",
        "TopK": f"{change.get('k')} experts per token",
        "BiasOff": f"bias off{where}",
        "GroupLimitOff": f"group limit off{where}",
        "GateTemperature": f"gate temperature {change.get('temperature')}{where}",
        "ScoreThreshold": f"no weight for experts of affinity below {change.get('threshold')}{where}",
        "Replay": f"routing of the first {change.get('num_tokens')} tokens replayed",
    }
    return phrases.get(str(change.get("kind")), "an unknown change")
