"""What a run depends on, and nothing else: prompt, sampling, what to record, what to change.

Plain frozen values without torch, so that a page can make, hash, save and compare them before any model is loaded.
Interventions are said in the user's words here; `model/run/engine.py` turns them into tensors once per run.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

CAPTURE_NAMES = ("router", "attention", "indexer", "inputs", "logits", "drafts")


class RequestError(ValueError):
    """A request that no run can satisfy; the message says what to change."""


@dataclasses.dataclass(frozen=True, slots=True)
class Capture:
    """What to record besides what is always recorded.

    `layers` and `heads` limit attention only; None means all of them. Where drafts are wanted, they are also tried:
    generated tokens then come two at a time whenever a draft was right.
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
    """The expert is never selected and its weight is zero."""

    layer: int
    expert: int


@dataclasses.dataclass(frozen=True, slots=True)
class ForceExpert:
    """The expert takes a place for every token; the last-ranked selected expert leaves."""

    layer: int
    expert: int


@dataclasses.dataclass(frozen=True, slots=True)
class TopK:
    """Another number of experts per token, in every mixture layer."""

    k: int


@dataclasses.dataclass(frozen=True, slots=True)
class BiasOff:
    """Experts are selected by affinity alone, in one layer or (None) in all."""

    layer: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class GroupLimitOff:
    """Experts are selected from all groups, in one layer or (None) in all."""

    layer: int | None = None


Intervention = KnockOut | ForceExpert | TopK | BiasOff | GroupLimitOff
_INTERVENTIONS = {kind.__name__: kind for kind in (KnockOut, ForceExpert, TopK, BiasOff, GroupLimitOff)}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """One run. The same request on the same model, device and dtype gives the same trace.

    Either `prompt` (text, a beginning-of-sequence token is added) or `token_ids` (fed exactly as they are). With `chat`
    the prompt is put as a user's turn, between the tokens that begin it and the answer. Temperature 0 is greedy;
    `top_k` 0 and `top_p` 1 cut nothing off.
    """

    prompt: str | None = None
    token_ids: tuple[int, ...] | None = None
    max_new_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    chat: bool = False
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
        if not 0 <= self.temperature < float("inf"):
            raise RequestError(f"the temperature must be 0 or more, it is {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise RequestError(f"top-p must be above 0 and at most 1, it is {self.top_p}")
        if self.top_k < 0:
            raise RequestError(f"top-k must be 0 (off) or more, it is {self.top_k}")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as a trace file keeps them."""
        plain = dataclasses.asdict(self)
        plain["capture"]["variables"] = sorted(self.capture.variables)
        plain["interventions"] = [
            {"kind": type(change).__name__, **dataclasses.asdict(change)} for change in self.interventions
        ]
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "RunRequest":
        """The inverse of `to_json`.

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
        except (KeyError, TypeError) as problem:
            raise RequestError(f"this is not a run request: {problem}") from None


def _tuple(values: Any) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)


def _read_intervention(plain: Mapping[str, Any]) -> Intervention:
    values = dict(plain)
    return _INTERVENTIONS[values.pop("kind")](**values)
