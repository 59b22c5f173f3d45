"""The request of a run: the prompt, the sampling, the variables to record and the interventions to apply.

Requests are frozen values without torch, so that a page can make, hash, save and compare them before it loads a model.
`model/run/interventions.py` defines the interventions.
"""

import binascii
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from model.run.interventions import Intervention, plain_intervention, read_intervention
from model.run.request_fields import RequestError, described_fields, request_field

LEAST_TEMPERATURE = 1e-4  # a smaller divisor of the logits could overflow
CAPTURE_NAMES = ("router", "attention", "indexer", "inputs", "logits", "drafts")


@dataclasses.dataclass(frozen=True, slots=True)
class Capture:
    """The variables to record in addition to those of every run.

    `layers` limits the layers of "attention" and "indexer"; `heads` limits the heads of "attention"; None: no limit.
    """

    variables: frozenset[str] = frozenset({"router"})
    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        unknown = sorted(self.variables - set(CAPTURE_NAMES))
        if unknown:
            raise RequestError(f"cannot capture {', '.join(unknown)}; choose from {', '.join(CAPTURE_NAMES)}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """The request of a run. The same request on the same model, device and dtype gives the same trace.

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
        help="Send the prompt as a user's turn, to a model that was tuned to answer.",
        option="--chat", option_help="Put the prompt as a question, to a model that was tuned to answer.",
    )  # fmt: skip
    verify_drafts: bool = request_field(
        False, key="verify", label="Verify drafts", more=True,
        help="Feed each draft before its token is chosen, and count how many are accepted. The text stays the same; on "
        "a CPU the run takes longer.",
        option="--verify-drafts", option_help="Feed each draft before its token is chosen.",
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
        """Return the request as JSON values, for a trace file."""
        # Not `dataclasses.asdict`: it copies every token id and replayed routing on its own.
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain["capture"] = dataclasses.asdict(self.capture) | {"variables": sorted(self.capture.variables)}
        plain["interventions"] = [plain_intervention(change) for change in self.interventions]
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "RunRequest":
        """Return the request that `to_json` turned into JSON values.

        A field of `FIELDS` that is missing, for example in an older file, gets its default.

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
            values["interventions"] = tuple(read_intervention(change) for change in values["interventions"])
            return cls(**values)
        except (KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise RequestError(f"this is not a run request: {error}") from None


# Name -> description of each field that a widget, a URL or a command-line option sets.
FIELDS = described_fields(RunRequest)


def _tuple(values: Any) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)
