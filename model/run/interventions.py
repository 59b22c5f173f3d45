"""The interventions of a request: changes of the routing, as frozen values without torch.

`model/run/routing_edit.py` turns them into tensors once per run.
"""

import base64
import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from model.run.request_fields import RequestError
from model.trace.routing import in_router_order

if TYPE_CHECKING:
    from model.trace.trace import Trace

# Most bytes of a replayed routing. A trace file keeps the routing in its header, which safetensors limits to 100 MB.
REPLAY_BYTES = 48 * 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class KnockOut:
    """Never select an expert."""

    layer: int
    expert: int


@dataclasses.dataclass(frozen=True, slots=True)
class ForceExpert:
    """Select the expert for every token, in place of the selected expert with the lowest biased score.

    The change does not affect which groups are kept; the expert is selected even if its group is not kept.
    """

    layer: int
    expert: int


@dataclasses.dataclass(frozen=True, slots=True)
class TopK:
    """Select `k` experts per token in every MoE layer."""

    k: int


@dataclasses.dataclass(frozen=True, slots=True)
class BiasOff:
    """Select experts by affinity without the bias, in one MoE layer, or in all if `layer` is None."""

    layer: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class GroupLimitOff:
    """Select experts from all groups, in one MoE layer, or in all if `layer` is None."""

    layer: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class GateTemperature:
    """Divide the router's logits by a temperature before the sigmoid or softmax, in one MoE layer or in all (None).

    A temperature of 1 changes nothing. Above 1, affinities differ less, and the bias has more effect on the selection.
    """

    temperature: float
    layer: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise RequestError(f"the gate temperature must be above 0, it is {self.temperature:g}")


@dataclasses.dataclass(frozen=True, slots=True)
class ScoreThreshold:
    """Set the gate weight of each selected expert whose affinity is below a threshold to zero.

    `layer` is the MoE layer; None: all MoE layers. The id of the expert stays in the trace, so that every token keeps
    top-k ids. The gate weights of the other experts are normalised without it. If no expert of a token reaches the
    threshold, only the shared experts contribute. A threshold of 0 changes nothing.
    """

    threshold: float
    layer: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise RequestError(f"a score threshold is an affinity from 0 to 1, not {self.threshold:g}")


@dataclasses.dataclass(frozen=True, slots=True)
class Replay:
    """Route the first `num_tokens` tokens to given experts with given gate weights; the model routes later tokens.

    Attributes:
        layers: model layer numbers, ascending.
        num_tokens: number of replayed tokens, from the first one on.
        top_k: experts per token.
        expert_ids: int16, little-endian, [token, layer, rank], in the router's own order of ranks.
        weights: float32, little-endian, [token, layer, rank]; gate weights as applied.
    """

    layers: tuple[int, ...]
    num_tokens: int
    top_k: int
    expert_ids: bytes
    weights: bytes

    def __post_init__(self) -> None:
        count = self.num_tokens * len(self.layers) * self.top_k
        if not count or min(self.num_tokens, self.top_k) < 0 or list(self.layers) != sorted(set(self.layers)):
            raise RequestError("a routing to replay needs layers in ascending order, tokens and experts")
        if (len(self.expert_ids), len(self.weights)) != (2 * count, 4 * count):
            raise RequestError(f"a routing of {count} choices does not have {len(self.expert_ids)} bytes of ids")
        if 6 * count > REPLAY_BYTES:
            raise RequestError(
                f"the routing of {self.num_tokens:,} tokens takes {6 * count / 2**20:.0f} MB, more than the "
                f"{REPLAY_BYTES >> 20} that a trace file can keep; replay fewer layers, or a shorter trace"
            )
        if not (np.isfinite(self.weight_array).all() and (self.id_array >= 0).all()):
            raise RequestError("a routing to replay must know every expert and its weight")

    @classmethod
    def of(cls, trace: "Trace", layers: tuple[int, ...] | None = None) -> "Replay":
        """Return the recorded routing of a trace, in the MoE layers `layers`; None: all recorded layers.

        Raises:
            RequestError: the trace lacks a layer, or the experts or gate weights of a token.
        """
        if not (trace.has("expert_id") and trace.has("gate_weight")):
            raise RequestError("the trace does not hold experts and their weights; record it with the capture 'router'")
        recorded = tuple(trace.data["moe_layer"].values.tolist())
        layers = recorded if layers is None else tuple(sorted(set(layers)))
        if missing := sorted(set(layers) - set(recorded)):
            raise RequestError(f"the trace holds no routing of layer {missing[0]}")
        names = [name for name in ("expert_id", "gate_weight", "rank_order") if trace.has(name)]
        ids, weights = in_router_order(trace.data[names].sel(moe_layer=list(layers)))
        values = ids.astype("<i2").tobytes(), weights.astype("<f4").tobytes()
        return cls(layers, trace.num_tokens, ids.shape[-1], *values)

    @property
    def id_array(self) -> np.ndarray:
        """The expert ids, int16 [token, layer, rank]."""
        return np.frombuffer(self.expert_ids, "<i2").reshape(self.num_tokens, len(self.layers), self.top_k)

    @property
    def weight_array(self) -> np.ndarray:
        """The gate weights, float32 [token, layer, rank]."""
        return np.frombuffer(self.weights, "<f4").reshape(self.num_tokens, len(self.layers), self.top_k)


Intervention = KnockOut | ForceExpert | TopK | BiasOff | GroupLimitOff | GateTemperature | ScoreThreshold | Replay
_KINDS = {kind.__name__: kind for kind in typing.get_args(Intervention)}


def experts_of_group(group: int, num_experts: int, num_groups: int) -> tuple[int, ...]:
    """Return the experts of a routing group. To change a group, make an intervention for each of its experts.

    >>> experts_of_group(1, 8, 4)
    (2, 3)

    Raises:
        RequestError: there is no such group.
    """
    if not 0 <= group < num_groups:
        raise RequestError(f"group {group} does not exist; groups are 0 to {num_groups - 1}")
    size = num_experts // num_groups
    return tuple(range(group * size, (group + 1) * size))


def plain_intervention(change: Intervention) -> dict[str, Any]:
    """Return an intervention as JSON values, with bytes in base64."""
    values = {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for name, value in dataclasses.asdict(change).items()
    }
    return {"kind": type(change).__name__} | values


def read_intervention(plain: Mapping[str, Any]) -> Intervention:
    """Return the intervention that `plain_intervention` turned into JSON values.

    Raises:
        KeyError, TypeError, AttributeError, binascii.Error: the values are not those of an intervention.
        RequestError: a value is out of range.
    """
    values = dict(plain)
    kind = _KINDS[values.pop("kind")]
    if kind is Replay:
        values["layers"] = tuple(values["layers"])
        for name in ("expert_ids", "weights"):
            values[name] = base64.b64decode(values[name], validate=True)
    return kind(**values)
