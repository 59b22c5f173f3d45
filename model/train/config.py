"""What a training run depends on, read from one TOML file: `[model]` is the shape, `[train]` everything else.

A run that adds to a trained model and trains what it added has `[indexer]` or `[mtp]` in place of `[model]`: the model
it starts from, and what is added. One that tunes a model on pairs has `[instruct]`, `[preference]`, `[reward]` or
`[grpo]`. One that trains all of a trained model on more text has `[continue]`, or `[extend]` if its context is to grow;
the shape is the model's.

The rate is a pure function of the step (linear warm-up, constant, linear decay over the last steps), so a run can be
resumed with another `total_steps` or `decay_steps`: that is how a run with a time limit gets its decay.
"""

import dataclasses
import math
import tomllib
import typing
from pathlib import Path

from model.network.config import ModelConfig


class TrainConfigError(ValueError):
    """A training configuration that cannot be used."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Data order, optimiser, schedule, balance and where it runs."""

    seed: int = 0
    total_steps: int
    warmup_steps: int
    decay_steps: int  # the last steps, over which the rate falls to zero
    learning_rate: float
    optimiser: str = "adamw"  # or muon
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1  # of matrices only
    clip: float = 1.0  # largest norm of the gradient of all parameters together
    sequence_length: int
    mixture: dict[str, float] = dataclasses.field(default_factory=dict)  # factors of streams' shares of the windows
    batch_size: int  # sequences of one forward pass
    accumulation: int = 1  # forward passes of one step
    ramp_steps: int = 0  # the first steps, over which the batch grows, by whole passes
    ramp_batch: int = 0  # sequences of the first step, where there is a ramp
    frozen: tuple[str, ...] = ()  # pieces of the names of parameters that do not learn, such as "blocks.0."
    bias_speed: float  # step of the selection bias
    bias_centred: bool = False  # whether the mean of a layer's biases stays where it is
    bias_off_steps: int = 0  # the last steps, over which the bias stays
    balance_weight: float = 1e-4  # of the sequence-wise loss, which is a mean over layers
    switch_weight: float = 0.0  # of the older auxiliary loss over the batch, which the report does not use
    mtp_weight: float = 0.3  # of the multi-token-prediction loss, where the model has such a module; at 0 it rests
    mtp_late_weight: float = 0.1  # over the last `mtp_late_steps`
    mtp_late_steps: int = 0
    checkpoint_steps: int = 500
    stop_on_alarm: bool = False  # end the run, with its state saved, when the watch raises one (watch.py)
    roll_back_on_alarm: int = 0  # how often to go back to the last state and other text; at the next alarm the run ends
    look_steps: int = 500  # between two looks at held-out text, when there is some
    look_bytes: int = 2_000  # of each held-out stream
    workers: int = 1  # forward passes that run side by side, each on `threads` threads
    threads: int = 2
    start_share: float = 0.0  # of the finished model's weights that are those it began with; see loop.blend
    compile: bool = False
    device: str = "auto"  # stages that add a part, or tune, are computed on the CPU
    dtype: str = "bfloat16"  # of products; weights and optimiser are fp32
    store: str = "auto"  # of the weights in the finished model: float32, bfloat16 or fp8; auto is as the released ones

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
            raise TrainConfigError(f"frozen must hold pieces of names, not {list(self.frozen)!r}")
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
        """Refuse windows that are longer than a model's context.

        Raises:
            TrainConfigError: they are.
        """
        if self.sequence_length > num_positions:
            raise TrainConfigError(
                f"sequence_length {self.sequence_length} exceeds the model's {num_positions} positions"
            )

    def passes_at(self, step: int) -> int:
        """Forward passes of a step: as many as `accumulation` says, fewer while the batch still grows."""
        if step >= self.ramp_steps:
            return self.accumulation
        first = self.ramp_batch // self.batch_size
        return first + (self.accumulation - first) * step // self.ramp_steps

    def tokens_at(self, step: int) -> int:
        """Positions that contribute to a step's loss."""
        return self.sequence_length * self.batch_size * self.passes_at(step)

    def rate(self, step: int) -> float:
        """Learning rate of a step; steps count from 0."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        cool = min(1.0, (self.total_steps - step) / (self.decay_steps + 1)) if self.decay_steps else 1.0
        return self.learning_rate * min(warm, cool)

    def bias_speed_at(self, step: int) -> float:
        """Speed of the selection bias at a step; zero over the last `bias_off_steps`."""
        return self.bias_speed if step < self.total_steps - self.bias_off_steps else 0.0

    def mtp_weight_at(self, step: int) -> float:
        """Weight of the multi-token-prediction loss at a step."""
        return self.mtp_weight if step < self.total_steps - self.mtp_late_steps else self.mtp_late_weight


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ContinueConfig:
    """More text for a trained model, with a fresh optimiser."""

    start: str  # name of an embedded model, or a folder


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExtendConfig:
    """A longer context for a trained model by YaRN; defaults as in the report, section 4.3, and its config.json."""

    start: str  # name of an embedded model, or a folder
    factor: float  # of the new context to the one before any extension
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
    """New indexers for a trained model."""

    start: str  # name of an embedded model, or a folder
    heads: int
    head_dim: int
    top_k: int  # keys that a query keeps in the finished model


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MtpConfig:
    """A multi-token-prediction module for a trained model; one that the model has goes on learning."""

    start: str  # name of an embedded model, or a folder
    reads_normed: bool = True  # the hidden state after the final norm, or before it (model/network/mtp.py)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class InstructConfig:
    """Tuning of a trained model on pairs of prompt and response."""

    start: str  # name of an embedded model, or a folder
    kinds: tuple[str, ...] = ("arithmetic",)  # of held-out pairs whose answers are compared before and after
    shares: dict[str, float] = dataclasses.field(default_factory=dict)  # of the samples, by kind; the rest as they come

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds))
        if any(share < 0 for share in self.shares.values()) or sum(self.shares.values()) > 1:
            raise TrainConfigError(f"shares must not be negative, and together at most 1, not {self.shares}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceConfig:
    """Alignment of a trained model on pairs of a chosen and a rejected response."""

    start: str  # name of an embedded model, or a folder
    beta: float = 0.1  # how far the model may move from where it started; small is far
    kinds: tuple[str, ...] = ("arithmetic",)  # of held-out pairs whose answers are compared before and after

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RewardConfig:
    """A model that scores responses, trained on pairs of a chosen and a rejected one."""

    start: str  # name of an embedded model, or a folder
    kinds: tuple[str, ...] = ("arithmetic",)  # of held-out pairs of which several answers are drawn and the best chosen
    answers: int = 4  # to each of their prompts
    new_tokens: int = 80  # of an answer at most

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds))
        if self.answers < 1 or self.new_tokens < 1:
            raise TrainConfigError("answers and new_tokens must be at least 1")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GrpoConfig:
    """Reinforcement of right answers to prompts whose right answer is known."""

    start: str  # name of an embedded model, or a folder
    kinds: tuple[str, ...] = ("arithmetic",)  # of the pairs whose prompts are asked, in training and held out
    group_size: int = 8  # answers to one prompt
    updates: int = 2  # steps on the answers of one draw, each on its own prompts
    new_tokens: int = 80  # of an answer at most
    ratio_clip: float = 0.2  # how far from 1 a token's ratio still counts
    kl_weight: float = 0.02  # of the distance to the model at the start
    stale_limit: float = 0.1  # mean log(old / new) from which on a sequence that is to become rarer is left out, nats

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
    """Read `[train]` and the one other table, which says what the run starts from.

    Raises:
        TrainConfigError: the file is missing, is no TOML, or has a missing, unknown or unusable table or entry.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        name = next((name for name in _STARTS if name in tables), "model")
        if surplus := tables.keys() - {name, "train"}:
            raise TrainConfigError(f"[{min(surplus)}] has no place beside [{name}] and [train]")
        return _STARTS[name](**tables[name]), TrainConfig(**tables["train"])
    except OSError as error:
        raise TrainConfigError(f"{path}: {error.strerror}") from error
    except KeyError as missing:
        raise TrainConfigError(f"{path} lacks the table [{missing.args[0]}]") from None
    except (TypeError, ValueError) as error:
        raise TrainConfigError(f"{path}: {error}") from error
