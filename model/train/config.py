"""The configuration of a training run, read from one TOML file with two tables.

`[train]` holds data, optimiser and schedule. The other table names the stage:

- `[model]`: pre-train from random weights; the table is the shape of the model.
- `[continue]`, `[extend]`: train a base model on more text; `[extend]` also lengthens its context.
- `[indexer]`, `[mtp]`: add a part to a base model and train only that part.
- `[instruct]`, `[preference]`, `[reward]`, `[grpo]`: train a base model on prompts with responses.

The learning rate depends on the step alone: linear warm-up, constant, linear decay over the last steps. A run can
therefore be resumed with another `total_steps` or `decay_steps`, for example to begin the decay before a time limit.
"""

import dataclasses
import math
import tomllib
import typing
from pathlib import Path

from model.network.config import ModelConfig


class TrainConfigError(ValueError):
    """A training configuration is unusable."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The settings of every stage: data order, optimiser, schedule, load balancing and device."""

    seed: int = 0
    total_steps: int
    warmup_steps: int
    decay_steps: int  # last steps, over which the rate falls to zero
    learning_rate: float
    optimiser: str = "adamw"  # adamw or muon
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1  # of matrices only
    clip: float = 1.0  # largest norm of the gradient over all parameters
    sequence_length: int
    mixture: dict[str, float] = dataclasses.field(default_factory=dict)  # stream -> factor on its share of the windows
    batch_size: int  # sequences per forward pass
    accumulation: int = 1  # forward passes per step
    ramp_steps: int = 0  # first steps, over which the batch grows by whole passes
    ramp_batch: int = 0  # sequences in the first step, if ramp_steps > 0
    frozen: tuple[str, ...] = ()  # freeze parameters whose names contain one of these, such as "blocks.0."
    bias_speed: float  # size of an update of the selection bias
    bias_centred: bool = False  # keep the mean of a layer's biases constant
    bias_off_steps: int = 0  # last steps, in which the bias is not updated
    balance_weight: float = 1e-4  # weight of the sequence-wise balance loss, a mean over layers
    switch_weight: float = 0.0  # weight of the Switch loss over the batch, which the report does not use
    mtp_weight: float = 0.3  # weight of the multi-token-prediction loss; 0 disables the loss and freezes the module
    mtp_late_weight: float = 0.1  # weight of the multi-token-prediction loss over the last `mtp_late_steps`
    mtp_late_steps: int = 0
    checkpoint_steps: int = 500
    stop_on_alarm: bool = False  # save the state and end the run at an alarm (watch.py)
    roll_back_on_alarm: int = 0  # number of alarms at which the run rolls back to the last state; a further one ends it
    look_steps: int = 500  # evaluation interval on held-out text, in steps
    look_bytes: int = 2_000  # bytes of each held-out stream per evaluation
    workers: int = 1  # forward passes that run in parallel, each on `threads` threads
    threads: int = 2
    start_share: float = 0.0  # share of the initial weights in the finished model; see `loop.blend`
    compile: bool = False
    device: str = "auto"  # stages that add a part or tune run on the CPU only
    dtype: str = "bfloat16"  # of matrix products; weights and optimiser state are fp32
    store: str = "auto"  # dtype of the saved weights: float32, bfloat16 or fp8; auto: the dtype of the released model

    def __post_init__(self) -> None:
        if isinstance(self.frozen, list):
            object.__setattr__(self, "frozen", tuple(self.frozen))
        for field in dataclasses.fields(self):
            kind, value = typing.get_origin(field.type) or field.type, getattr(self, field.name)
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise TrainConfigError(f"{field.name} must be of type {getattr(kind, '__name__', kind)}, not {value!r}")
        counts = ("total_steps", "sequence_length", "batch_size", "accumulation", "workers", "threads")
        for name in (*counts, "checkpoint_steps", "look_steps"):
            if getattr(self, name) < 1:
                raise TrainConfigError(f"{name} must be at least 1")
        if not all(isinstance(piece, str) and piece for piece in self.frozen):
            raise TrainConfigError(f"frozen must hold parts of parameter names, not {list(self.frozen)!r}")
        largest = self.batch_size * self.accumulation
        if self.ramp_steps and not (0 < self.ramp_batch <= largest and self.ramp_batch % self.batch_size == 0):
            raise TrainConfigError(f"ramp_batch must be a multiple of batch_size and at most {largest}")
        if not all(type(factor) in (int, float) and 0 <= factor < math.inf for factor in self.mixture.values()):
            raise TrainConfigError(f"mixture must hold factors of at least 0, not {self.mixture}")
        if not 0 <= self.start_share < 1:
            raise TrainConfigError(f"start_share must be at least 0 and below 1, not {self.start_share}")
        if self.warmup_steps + self.decay_steps > self.total_steps:
            raise TrainConfigError("warmup_steps and decay_steps together exceed total_steps")
        if self.dtype not in ("bfloat16", "float32"):
            raise TrainConfigError(f"dtype must be bfloat16 or float32, not {self.dtype!r}")
        if self.optimiser not in ("adamw", "muon"):
            raise TrainConfigError(f"optimiser must be adamw or muon, not {self.optimiser!r}")
        if self.store not in ("auto", "float32", "bfloat16", "fp8"):
            raise TrainConfigError(f"store must be auto, float32, bfloat16 or fp8, not {self.store!r}")

    def require_context(self, num_positions: int) -> None:
        """Check that a window of `sequence_length` tokens fits a model's context.

        Raises:
            TrainConfigError: the window is longer than the context.
        """
        if self.sequence_length > num_positions:
            raise TrainConfigError(
                f"sequence_length {self.sequence_length} exceeds the model's {num_positions} positions"
            )

    def passes_at(self, step: int) -> int:
        """Return the number of forward passes in a step: `accumulation`, or fewer while the batch grows."""
        if step >= self.ramp_steps:
            return self.accumulation
        first = self.ramp_batch // self.batch_size
        return first + (self.accumulation - first) * step // self.ramp_steps

    def tokens_at(self, step: int) -> int:
        """Return the number of positions in a step's loss."""
        return self.sequence_length * self.batch_size * self.passes_at(step)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step; steps count from 0."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        cool = min(1.0, (self.total_steps - step) / (self.decay_steps + 1)) if self.decay_steps else 1.0
        return self.learning_rate * min(warm, cool)

    def bias_speed_at(self, step: int) -> float:
        """Return the update size of the selection bias at a step; zero over the last `bias_off_steps`."""
        return self.bias_speed if step < self.total_steps - self.bias_off_steps else 0.0

    def mtp_weight_at(self, step: int) -> float:
        """Return the weight of the multi-token-prediction loss at a step."""
        return self.mtp_weight if step < self.total_steps - self.mtp_late_steps else self.mtp_late_weight


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ContinueConfig:
    """Settings for training a base model on more text, with a new optimiser."""

    start: str  # base model: name of an embedded model, or a folder


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExtendConfig:
    """Settings for a longer context by YaRN. The defaults are those of V3 (report, section 4.3; config.json)."""

    start: str  # base model: name of an embedded model, or a folder
    factor: float  # ratio of the new context to the context before any extension
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 1.0
    mscale_all_dim: float = 1.0

    def __post_init__(self) -> None:
        if self.factor <= 1:
            raise TrainConfigError(f"factor must be above 1, not {self.factor}")
        if self.beta_fast <= self.beta_slow:
            raise TrainConfigError("beta_fast must be above beta_slow")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class IndexerConfig:
    """Settings for adding indexers to a base model."""

    start: str  # base model: name of an embedded model, or a folder
    heads: int
    head_dim: int
    top_k: int  # keys per query in the finished model


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MtpConfig:
    """Settings for training the multi-token-prediction module of a base model, or a new one if the model has none."""

    start: str  # base model: name of an embedded model, or a folder
    reads_normed: bool = True  # read the hidden state after the final norm, not before it (model/network/mtp.py)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class InstructConfig:
    """Settings for tuning a base model on pairs of prompt and response."""

    start: str  # base model: name of an embedded model, or a folder
    kinds: tuple[str, ...] = ("arithmetic",)  # kinds of the held-out pairs, answered before and after
    shares: dict[str, float] = dataclasses.field(
        default_factory=dict
    )  # share of the samples by kind; the other kinds share the rest

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds))
        if any(share < 0 for share in self.shares.values()) or sum(self.shares.values()) > 1:
            raise TrainConfigError(f"shares must not be negative, and together at most 1, not {self.shares}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceConfig:
    """Settings for aligning a base model with pairs of a chosen and a rejected response (DPO)."""

    start: str  # base model: name of an embedded model, or a folder
    beta: float = 0.1  # small values let the model move far from the base model
    kinds: tuple[str, ...] = ("arithmetic",)  # kinds of the held-out pairs, answered before and after

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RewardConfig:
    """Settings for training a model that scores responses, on pairs of a chosen and a rejected response."""

    start: str  # base model: name of an embedded model, or a folder
    kinds: tuple[str, ...] = ("arithmetic",)  # kinds of the held-out prompts for best-of-n
    answers: int = 4  # answers drawn per prompt
    new_tokens: int = 80  # limit per answer

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds))
        if self.answers < 1 or self.new_tokens < 1:
            raise TrainConfigError("answers and new_tokens must be at least 1")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GrpoConfig:
    """Settings for reinforcing right answers to prompts with a known result (GRPO)."""

    start: str  # base model: name of an embedded model, or a folder
    kinds: tuple[str, ...] = ("arithmetic",)  # kinds of the pairs whose prompts are answered
    group_size: int = 8  # answers per prompt
    updates: int = 2  # steps per draw of answers; each step uses other prompts
    new_tokens: int = 80  # limit per answer
    ratio_clip: float = 0.2  # a token's probability ratio is clipped to the range 1 - ratio_clip to 1 + ratio_clip
    kl_weight: float = 0.02  # weight of the KL divergence from the base model
    stale_limit: float = 0.1  # mask answers with negative advantage and a mean log(old / new) above this, nats

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds))
        if self.group_size < 2 or self.updates < 1 or self.new_tokens < 1:
            raise TrainConfigError("group_size must be at least 2, updates and new_tokens at least 1")


Start = (
    ModelConfig
    | ContinueConfig
    | ExtendConfig
    | IndexerConfig
    | MtpConfig
    | InstructConfig
    | PreferenceConfig
    | RewardConfig
    | GrpoConfig
)
_STARTS = {
    "model": ModelConfig,
    "continue": ContinueConfig,
    "extend": ExtendConfig,
    "indexer": IndexerConfig,
    "mtp": MtpConfig,
    "instruct": InstructConfig,
    "preference": PreferenceConfig,
    "reward": RewardConfig,
    "grpo": GrpoConfig,
}


def load_config(path: Path) -> tuple[Start, TrainConfig]:
    """Return the table of the stage and the table `[train]` of a TOML file.

    Raises:
        TrainConfigError: the file is missing or not TOML, or a table or entry is missing, unknown or unusable.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        name = next((name for name in _STARTS if name in tables), "model")
        if surplus := tables.keys() - {name, "train"}:
            raise TrainConfigError(f"[{min(surplus)}] is not allowed beside [{name}] and [train]")
        return _STARTS[name](**tables[name]), TrainConfig(**tables["train"])
    except OSError as error:
        raise TrainConfigError(f"{path}: {error.strerror}") from error
    except KeyError as missing:
        raise TrainConfigError(f"{path} lacks the table [{missing.args[0]}]") from None
    except (TypeError, ValueError) as error:
        raise TrainConfigError(f"{path}: {error}") from error
