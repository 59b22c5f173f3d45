"""The request of a run: prompt, sampling, which variables to record and which interventions to apply.

Requests are frozen values without torch, so that a page can make, hash, save and compare them before it loads a model.
`model/run/interventions.py` turns interventions into tensors once per run.
"""

import base64
import binascii
import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from model.run.request_fields import described_fields, request_field

if TYPE_CHECKING:
    from model.trace.trace import Trace

# Most bytes of a replayed routing. A trace file keeps it in its header, which safetensors limits to 100 MB.
REPLAY_BYTES = 48 * 2**20

LEAST_TEMPERATURE = 1e-4  # a smaller divisor of the logits could overflow
CAPTURE_NAMES = ("router", "attention", "indexer", "inputs", "logits", "drafts")


class RequestError(ValueError):
    """No run can satisfy the request; the message says what to change."""


@dataclasses.dataclass(frozen=True, slots=True)
class Capture:
    """The variables to record in addition to those of every run.

    `layers` limits attention and indexer, `heads` attention only; None: no limit. With "drafts" the run also uses the
    draft tokens: each accepted one adds a second generated token to a forward pass.
    """

    variables: frozenset[str] = frozenset({"router"})
    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        unknown = sorted(self.variables - set(CAPTURE_NAMES))
        if unknown:
            raise RequestError(f"cannot capture {', '.join(unknown)}; choose from {', '.join(CAPTURE_NAMES)}")


@dataclasses.dataclass(frozen=True, slots=True)
class KnockOut:
    """Never select the expert."""

    layer: int
    expert: int


@dataclasses.dataclass(frozen=True, slots=True)
class ForceExpert:
    """Select the expert for every token, in place of the selected expert with the lowest rank."""

    layer: int
    expert: int


@dataclasses.dataclass(frozen=True, slots=True)
class TopK:
    """Select another number of experts per token, in every MoE layer."""

    k: int


@dataclasses.dataclass(frozen=True, slots=True)
class BiasOff:
    """Select experts by affinity without the bias, in one layer or (None) in all."""

    layer: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class GroupLimitOff:
    """Select experts from all groups, in one layer or (None) in all."""

    layer: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class GateTemperature:
    """Divide the router's logits by a temperature before the sigmoid or softmax, in one layer or (None) in all.

    1 changes nothing. Above 1, affinities differ less and the bias decides more.
    """

    temperature: float
    layer: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise RequestError(f"the gate's temperature must be above 0, it is {self.temperature:g}")


@dataclasses.dataclass(frozen=True, slots=True)
class ScoreThreshold:
    """Set the weight of a selected expert with a lower affinity to zero, in one layer or (None) in all.

    The expert's id stays in the trace, so that every token keeps top-k ids; the other weights are normalised without
    it. If no expert of a token reaches the threshold, only the shared experts contribute. 0 changes nothing.
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
        expert_ids: int16, little-endian, [token, layer, rank].
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
        """Return the routing of a trace, in the given MoE layers or (None) in all that it recorded.

        Raises:
            RequestError: the trace does not know every token's experts and weights, or lacks a layer.
        """
        if not (trace.has("expert_id") and trace.has("gate_weight")):
            raise RequestError("the trace does not hold experts and their weights; record it with the capture 'router'")
        recorded = tuple(trace.data["moe_layer"].values.tolist())
        layers = recorded if layers is None else tuple(sorted(set(layers)))
        if missing := sorted(set(layers) - set(recorded)):
            raise RequestError(f"the trace holds no routing of layer {missing[0]}")
        chosen = trace.data[["expert_id", "gate_weight"]].sel(moe_layer=list(layers))
        return cls(
            layers,
            trace.num_tokens,
            chosen.sizes["rank"],
            chosen["expert_id"].values.astype("<i2").tobytes(),
            chosen["gate_weight"].values.astype("<f4").tobytes(),
        )

    @property
    def id_array(self) -> np.ndarray:
        """The expert ids, int16 [token, layer, rank]."""
        return np.frombuffer(self.expert_ids, "<i2").reshape(self.num_tokens, len(self.layers), self.top_k)

    @property
    def weight_array(self) -> np.ndarray:
        """The gate weights, float32 [token, layer, rank]."""
        return np.frombuffer(self.weights, "<f4").reshape(self.num_tokens, len(self.layers), self.top_k)


Intervention = KnockOut | ForceExpert | TopK | BiasOff | GroupLimitOff | GateTemperature | ScoreThreshold | Replay
_KINDS = (KnockOut, ForceExpert, TopK, BiasOff, GroupLimitOff, GateTemperature, ScoreThreshold, Replay)
_INTERVENTIONS = {kind.__name__: kind for kind in _KINDS}


def experts_of_group(group: int, num_experts: int, num_groups: int) -> tuple[int, ...]:
    """Return the experts of a routing group. A change of a group is the same change of each of its experts.

    >>> experts_of_group(1, 8, 4)
    (2, 3)

    Raises:
        RequestError: there is no such group.
    """
    if not 0 <= group < num_groups:
        raise RequestError(f"group {group} does not exist; groups are 0 to {num_groups - 1}")
    size = num_experts // num_groups
    return tuple(range(group * size, (group + 1) * size))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """A run's request. The same request on the same model, device and dtype gives the same trace.

    Give either `prompt` (text; the run adds a beginning-of-sequence token) or `token_ids` (fed unchanged). With `chat`
    the prompt becomes a user's turn: the run adds the tokens that begin the turn and the answer. Temperature 0 always
    selects the likeliest token; `top_k` 0 and `top_p` 1 keep all tokens.
    """

    prompt: str | None = request_field(
        None, key="prompt", label="Prompt", option="--prompt", option_help="The text to run."
    )
    token_ids: tuple[int, ...] | None = None
    max_new_tokens: int = request_field(
        0, key="new", label="New tokens", help="At most {high}.", first=48,
        option="--new-tokens", option_help="Tokens to generate.",
    )  # fmt: skip
    temperature: float = request_field(
        0.0, key="temp", label="Temperature", first=0.7, low=0.0, high=5.0, step=0.1, samples=True,
        help="The logits are divided by it before a token is drawn. 0 always takes the likeliest token.",
        option="--temperature",
    )  # fmt: skip
    top_p: float = request_field(
        1.0, key="top_p", label="Top-p", low=0.01, high=1.0, step=0.05, more=True, samples=True,
        help="A token is drawn from the likeliest ones that together reach this probability. 1 keeps all tokens.",
        option="--top-p",
    )  # fmt: skip
    top_k: int = request_field(
        0, key="top_k", label="Top-k", high=10_000, more=True, samples=True,
        help="A token is drawn from this many of the likeliest ones. 0 keeps all tokens.",
        option="--top-k",
    )  # fmt: skip
    seed: int = request_field(
        0, key="seed", label="Seed", high=2**31, samples=True, help="The same seed gives the same run.",
        option="--seed", option_range=(0, 2**63 - 1),
    )  # fmt: skip
    chat: bool = request_field(
        False, key="chat", label="Put it as a question", more=True,
        help="Between the tokens of a user's turn and an answer's, for a model that was tuned to answer.",
        option="--chat", option_help="Put the prompt as a question, to a model that was tuned to answer.",
    )  # fmt: skip
    capture: Capture = Capture()
    interventions: tuple[Intervention, ...] = ()

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.token_ids is None):
            raise RequestError("give either a prompt or token ids")
        if self.chat and self.prompt is None:
            raise RequestError("only a prompt can be put as a question; token ids are fed as they are")
        if self.prompt == "" or self.token_ids == ():
            raise RequestError("the prompt is empty; type at least one character")
        if self.max_new_tokens < 0:
            raise RequestError(f"the number of new tokens must not be negative, it is {self.max_new_tokens}")
        if self.temperature != 0 and not LEAST_TEMPERATURE <= self.temperature < math.inf:
            raise RequestError(
                f"the temperature must be 0 or more, if more then from {LEAST_TEMPERATURE} on; it is {self.temperature}"
            )
        if not 0 <= self.seed < 1 << 63:
            raise RequestError(f"the seed must be from 0 to 2^63 - 1, it is {self.seed}")
        if not 0 < self.top_p <= 1:
            raise RequestError(f"top-p must be above 0 and at most 1, it is {self.top_p}")
        if self.top_k < 0:
            raise RequestError(f"top-k must be 0 (off) or more, it is {self.top_k}")

    def to_json(self) -> dict[str, Any]:
        """Return the request as JSON values, as a trace file keeps it."""
        plain = dataclasses.asdict(self)
        plain["capture"]["variables"] = sorted(self.capture.variables)
        plain["interventions"] = [_plain_intervention(change) for change in self.interventions]
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "RunRequest":
        """Read what `to_json` returned. A field of `FIELDS` that is missing, as in an older file, gets its default.

        Raises:
            RequestError: the values are not those of a request.
        """
        try:
            values = dict(plain)
            capture = dict(values.pop("capture"))
            values["capture"] = Capture(
                frozenset(capture["variables"]), _tuple(capture["layers"]), _tuple(capture["heads"])
            )
            values["token_ids"] = _tuple(values["token_ids"])
            values["interventions"] = tuple(_read_intervention(change) for change in values["interventions"])
            return cls(**values)
        except (KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise RequestError(f"this is not a run request: {error}") from None


# By name, the fields that a widget, an address and a command-line option set.
FIELDS = described_fields(RunRequest)


def _tuple(values: Any) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)


def _plain_intervention(change: Intervention) -> dict[str, Any]:
    """Return an intervention as JSON values, with bytes in base64."""
    values = {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for name, value in dataclasses.asdict(change).items()
    }
    return {"kind": type(change).__name__} | values


def _read_intervention(plain: Mapping[str, Any]) -> Intervention:
    values = dict(plain)
    kind = _INTERVENTIONS[values.pop("kind")]
    if kind is Replay:
        values["layers"] = tuple(values["layers"])
        for name in ("expert_ids", "weights"):
            values[name] = base64.b64decode(values[name], validate=True)
    return kind(**values)
