"""Build a trace from an engine's recording: assign its rows to tokens and layers, and label the tokens.

Row r of a recording is the routing of token r of the input, whose hidden state predicts token r + 1. The model never
processed the last sampled token, which has no row. Unknown data stay unknown: an id of -1, a missing variable, an empty
text of a token.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from model.trace import limits
from model.trace.imports.origin import origin
from model.trace.imports.reading import plain_text
from model.trace.router_rule import RouterRule, whole
from model.trace.trace import Token, Trace, TraceError

UNKNOWN = -1
NO_IDS = "the file does not hold all token ids, and no tokenizer gives as many as the file counts"
_FEWEST_ZEROS = 8  # ids of one expert per token that may all be 0 by chance
RANKS = "a token's experts are in the engine's order; without weights, the strongest is unknown"
Labelled = tuple[tuple[Token, ...], bytes]


@dataclasses.dataclass(frozen=True)
class StatedShape:
    """The numbers of layers and heads and the router rule of a model, from its published config.json."""

    num_layers: int
    num_dense: int
    num_heads: int
    rule: RouterRule

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """The model layer numbers of the MoE layers."""
        return tuple(range(self.num_dense, self.num_layers))

    @property
    def num_experts(self) -> int:
        """The number of routed experts of a layer."""
        return self.rule.num_experts

    @property
    def top_k(self) -> int:
        """The number of experts that a token selects."""
        return self.rule.top_k

    @property
    def num_groups(self) -> int:
        """The number of routing groups."""
        return self.rule.num_groups

    @property
    def num_kept_groups(self) -> int:
        """The number of groups that a token keeps."""
        return self.rule.num_kept_groups

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "StatedShape":
        """Return the shape that a config.json states.

        Raises:
            TraceError: a key is missing or is no whole number, or there is no MoE layer.
        """
        num_layers, num_dense = whole(config, "num_hidden_layers"), whole(config, "first_k_dense_replace", 0)
        if not 0 <= num_dense < num_layers <= 1_000 or not 1 <= whole(config, "n_routed_experts") <= 1 << 15:
            raise TraceError("the model named has no mixture-of-experts layers, so the file cannot belong to it")
        return cls(num_layers, num_dense, whole(config, "num_attention_heads", 1), RouterRule.of(config))


@dataclasses.dataclass(frozen=True)
class Named:
    """The model that was run. Tokenizer and weights are callbacks, because this package does not import torch.

    Attributes:
        name: name of the model on pages.
        config: its published config.json.
        encode: function from a text to ids without BOS; None without a tokenizer.
        first_ids: ids of the tokens that begin every run.
        label: function from (ids, number of prompt tokens) to tokens and text; None without a tokenizer.
        bias: function from a model layer number to the selection bias, [expert]; None without weights.
        tokenizer_sha256: hash of its tokenizer.json.
    """

    name: str
    config: Mapping[str, Any]
    encode: Callable[[str], list[int]] | None = None
    first_ids: tuple[int, ...] = ()
    label: Callable[[list[int], int], Labelled] | None = None
    bias: Callable[[int], np.ndarray] | None = None
    tokenizer_sha256: str | None = None

    @property
    def shape(self) -> StatedShape:
        """The model's numbers of layers and heads, and its router rule."""
        return StatedShape.of(self.config)

    def description(self) -> dict[str, Any]:
        """The value of `Trace.model` for this model."""
        return {
            "name": self.name,
            "config": dict(self.config),
            "weights_sha256": None,
            "tokenizer_sha256": self.tokenizer_sha256,
        }


@dataclasses.dataclass(frozen=True)
class Words:
    """The tokens of a run, as a file and its request state them. An attribute is None if neither states it.

    Attributes:
        prompt: the prompt.
        text: the generated text.
        prompt_ids, new_ids: token ids of the prompt and of the generated text.
        num_prompt, num_new: number of tokens of the prompt and of the generated text.
        pieces: text of every token, prompt first.
    """

    prompt: str | None = None
    text: str | None = None
    prompt_ids: list[int] | None = None
    new_ids: list[int] | None = None
    num_prompt: int | None = None
    num_new: int | None = None
    pieces: Sequence[str | None] | None = None

    def completed(self, named: Named) -> "Words":
        """Return a copy that takes missing ids from the model's tokenizer, and missing numbers of tokens from the ids.

        Raises:
            TraceError: the number of ids differs from the stated number of tokens.
        """
        prompt_ids, new_ids = self.prompt_ids, self.new_ids
        if prompt_ids is None:
            prompt_ids = _encoded(named, self.prompt, self.num_prompt, begins=True)
        if new_ids is None:
            new_ids = _encoded(named, self.text, self.num_new, begins=False)
        return dataclasses.replace(
            self,
            prompt_ids=prompt_ids,
            new_ids=new_ids,
            num_prompt=_agreed(self.num_prompt, prompt_ids, "prompt"),
            num_new=_agreed(self.num_new, new_ids, "generated text"),
        )


def _encoded(named: Named, text: str | None, number: int | None, begins: bool) -> list[int] | None:
    """Return the ids of a text by the model's tokenizer; None unless their number equals the engine's count."""
    if text is None or number is None or named.encode is None:
        return None
    ids = named.encode(text)
    with_first = [[*named.first_ids, *ids]] if begins else []
    return next((candidate for candidate in (*with_first, ids) if len(candidate) == number), None)


def _agreed(number: int | None, ids: list[int] | None, what: str) -> int | None:
    if number is not None and ids is not None and number != len(ids):
        raise TraceError(f"the {what} has {number} tokens by the engine's count, and {len(ids)} ids")
    return number if ids is None else len(ids)


def labelled(words: Words, named: Named, num_tokens: int) -> Labelled:
    """Return the tokens and their text; an unknown id is -1, an unknown piece is empty."""
    limits.check_tokens(num_tokens)
    num_prompt = num_tokens if words.num_prompt is None else words.num_prompt
    ids = [*_or_unknown(words.prompt_ids, num_prompt), *_or_unknown(words.new_ids, num_tokens - num_prompt)]
    if named.label is not None and UNKNOWN not in ids:
        return named.label(ids, num_prompt)
    pieces = words.pieces if words.pieces is not None and len(words.pieces) == num_tokens else [None] * num_tokens
    tokens, text = [], b""
    for index, (token_id, piece) in enumerate(zip(ids, pieces, strict=True)):
        piece_bytes = plain_text(piece or "", "a token's text").encode()
        tokens.append(Token(token_id, piece or "", len(text), len(text) + len(piece_bytes), index >= num_prompt))
        text += piece_bytes
    return tuple(tokens), text


def _or_unknown(ids: list[int] | None, number: int) -> list[int]:
    return [UNKNOWN] * number if ids is None else ids


def of_moe_layers(ids: np.ndarray, shape: StatedShape, name: str) -> np.ndarray:
    """Return the expert ids of the MoE layers, [row, moe_layer, slot].

    The length of the layer axis of `ids` tells whether it holds the MoE layers or all layers, the dense layers first.

    Raises:
        TraceError: the layer axis has neither length.
    """
    if ids.shape[1] == len(shape.moe_layers):
        return ids
    if ids.shape[1] == shape.num_layers:
        return ids[:, shape.num_dense :]
    raise TraceError(
        f"{name} has {ids.shape[1]} layers; the model named has {len(shape.moe_layers)} with experts and "
        f"{shape.num_layers} in all"
    )


def routed_slots(ids: np.ndarray, shape: StatedShape, name: str) -> np.ndarray:
    """Return the ids in the slots of routed experts, after checks; an extra slot for a fused shared expert is dropped.

    Raises:
        TraceError: the number of slots is wrong, an id is no expert of the model, or a token has an expert twice.
    """
    extra = ids.shape[2] - shape.top_k
    if extra == 1 and (ids[:, :, -1] >= shape.num_experts).all():
        ids = ids[:, :, :-1]
    elif extra:
        raise TraceError(f"{name} has {ids.shape[2]} experts to a token; the model named takes {shape.top_k}")
    if ids.size and ids.max() >= shape.num_experts:
        raise TraceError(
            f"{name} names expert {ids.max()} of a model with {shape.num_experts} (another model, or physical "
            "ids of redundant experts?)"
        )
    ordered = np.sort(ids, axis=-1)
    twice = (ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)
    if twice.any():
        row, layer, slot = (int(axis[0]) for axis in np.nonzero(twice))
        raise TraceError(
            f"{name} names expert {ordered[row, layer, slot]} twice in row {row}, L{shape.moe_layers[layer]}; "
            "the file belongs to another model, or the engine recorded nothing"
        )
    if ids.size >= _FEWEST_ZEROS and not ids.any():
        raise TraceError(f"{name} names expert 0 for every token in every layer: the engine recorded nothing")
    return ids


def placed(ids: np.ndarray, start: int, num_tokens: int, name: str) -> np.ndarray:
    """Return the ids by token, int16 [token, moe_layer, rank]; -1 for a token without a row.

    Row 0 belongs to token `start`.

    Raises:
        TraceError: a row lies outside the run, or the run is too long.
    """
    end = start + len(ids)
    if num_tokens > limits.MOST_TOKENS or num_tokens * math.prod(ids.shape[1:]) > limits.MOST_CHOICES:
        raise TraceError(f"a run of {num_tokens:,} tokens is too long to show; record a shorter one")
    if start < 0 or end > num_tokens:
        raise TraceError(f"{name} has {len(ids)} rows from token {start} on, the run has {num_tokens} tokens")
    expert_id = np.full((num_tokens, *ids.shape[1:]), UNKNOWN, np.int16)
    expert_id[start:end] = ids
    return expert_id


def traced(
    named: Named,
    words: Words,
    expert_id: np.ndarray,
    engine: str,
    form: str,
    missing: Mapping[str, str],
    notes: Sequence[str] = (),
    weights: np.ndarray | None = None,
) -> Trace:
    """Return the trace of recorded expert ids, and of their gate weights if the file has them.

    Args:
        named: the model that was run.
        words: the tokens, as `Words.completed` returns them.
        expert_id: expert ids, [token, moe_layer, rank].
        engine: name of the engine.
        form: format of the file.
        missing: for each kind of data that the trace lacks, the reason.
        notes: notes on what limits the trace.
        weights: gate weights, [token, moe_layer, rank], the largest first; None if the file has none.
    """
    tokens, text = labelled(words, named, len(expert_id))
    ids = np.array([token.id for token in tokens], np.int32)
    data = xr.Dataset(
        {"token_id": (("token",), ids), "expert_id": (("token", "moe_layer", "rank"), expert_id.astype(np.int16))},
        coords={"moe_layer": list(named.shape.moe_layers)},
    )
    if weights is not None:
        data["gate_weight"] = (("token", "moe_layer", "rank"), weights.astype(np.float32))
    no_ids = [NO_IDS] if (ids == UNKNOWN).any() else []
    ranks = [RANKS] if weights is None else []
    return Trace(
        data=data,
        tokens=tokens,
        text=text,
        request={"prompt": words.prompt, "max_new_tokens": sum(token.generated for token in tokens)},
        model=named.description(),
        origin=origin(engine, form, missing, [*notes, *no_ids, *ranks]),
    )
