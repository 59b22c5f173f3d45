"""The abilities of an engine: what it can record and change, and why it cannot do the rest.

This module does not import torch.
"""

import dataclasses
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from model.run.interventions import Intervention
from model.run.request import CAPTURE_NAMES, RequestError, RunRequest

if TYPE_CHECKING:
    from model.network.config import ModelConfig

INTERVENTIONS = frozenset(kind.__name__ for kind in typing.get_args(Intervention))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Abilities:
    """What an engine can do for a request.

    Attributes:
        captures: the members of `CAPTURE_NAMES` that a run can record.
        interventions: class names of the interventions that a run can apply.
        new_tokens: whether a run can generate tokens.
        heads_later: whether the attention of a head can be computed after the run, from the layers' inputs.
        exclusive: whether only one run goes on at a time, from its first step to its last.
        attention_layers: the layers whose attention a run can record; None: all.
        missing: name of a capture, an intervention or a field above -> a sentence that says why it is missing.
    """

    captures: frozenset[str] = frozenset(CAPTURE_NAMES)
    interventions: frozenset[str] = INTERVENTIONS
    new_tokens: bool = True
    heads_later: bool = True
    exclusive: bool = False
    attention_layers: tuple[int, ...] | None = None
    missing: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def check(self, request: RunRequest) -> None:
        """Check that the engine can record and change what a request names.

        Raises:
            RequestError: it cannot; the message gives the reason.
        """
        variables = request.capture.variables | ({"drafts"} if request.verify_drafts else set())
        unable = [name for name in CAPTURE_NAMES if name in variables - self.captures]
        names = [type(change).__name__ for change in request.interventions]
        unable += [name for name in names if name not in self.interventions]
        unable += ["new_tokens"] if request.max_new_tokens and not self.new_tokens else []
        for name in unable:
            raise RequestError(self.missing.get(name, f"this engine cannot do {name} with this model"))


def of_own_network(config: "ModelConfig", from_disk: bool) -> Abilities:
    """Return the abilities of the own network with a configuration; `from_disk`: its weights stay on the disk."""
    missing: dict[str, Any] = {}
    if not config.is_sparse:
        missing["indexer"] = f"{config.model_type} has no indexer to capture"
    if not config.has_mtp:
        missing["drafts"] = "this model has no multi-token-prediction module to make drafts"
    if from_disk:
        missing["new_tokens"] = "the model is read from disk layer by layer, for a prompt only; ask for 0 new tokens"
    return Abilities(
        captures=frozenset(CAPTURE_NAMES) - missing.keys(), new_tokens=not from_disk, exclusive=from_disk,
        missing=missing,
    )  # fmt: skip
