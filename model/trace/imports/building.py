"""From what an engine sent to a trace: which row belongs to which token and layer, and what the tokens are.

Row r of an engine's recording is the routing of input token r, whose hidden state predicts token r + 1; the last
sampled token was never run and has no row. What is unknown stays unknown: id -1, an absent variable, an empty piece.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from model.trace.imports.origin import origin
from model.trace.imports.reading import MOST_TOKENS, plain_text
from model.trace.router_rule import RouterRule, whole
from model.trace.trace import Token, Trace, TraceError

UNKNOWN = -1
MOST_CHOICES = 1 << 27  # experts of all tokens and layers, 268 MB: those of 289,000 tokens of the released V3
NO_IDS = "the file does not hold token ids, and no tokenizer gives as many as it speaks of"
RANKS = "a token's experts stand in the engine's order; without weights none is known to count most"
Labelled = tuple[tuple[Token, ...], bytes]


@dataclasses.dataclass(frozen=True)
class Shape:
    """The layers and heads of a model and its router rule, from the keys of its published config.json."""

    num_layers: int
    num_dense: int
    num_heads: int
    rule: RouterRule

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """Model layer numbers of the MoE layers."""
        return tuple(range(self.num_dense, self.num_layers))

    @property
    def num_experts(self) -> int:
        """Routed experts of a layer."""
        return self.rule.num_experts

    @property
    def top_k(self) -> int:
        """Experts that are selected for a token."""
        return self.rule.top_k

    @property
    def num_groups(self) -> int:
        """Routing groups of a layer."""
        return self.rule.num_groups

    @property
    def num_kept_groups(self) -> int:
        """Groups that a token's experts may come from."""
        return self.rule.num_kept_groups

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Shape":
        """Read a config.json.

        Raises:
            TraceError: a key is missing or is no whole number, or there is no MoE layer.
        """
        num_layers, num_dense = whole(config, "num_hidden_layers"), whole(config, "first_k_dense_replace", 0)
        if not 0 <= num_dense < num_layers <= 1_000 or not 1 <= whole(config, "n_routed_experts") <= 1 << 15:
            raise TraceError("the model named has no mixture-of-experts layers, so the file cannot belong to it")
        return cls(num_layers, num_dense, whole(config, "num_attention_heads", 1), RouterRule.of(config))


@dataclasses.dataclass(frozen=True)
class Named:
    """The model that a file belongs to, and what can be asked of it. This room has no torch, so others answer.

    Attributes:
        name: as it is called on screen.
        config: its published config.json.
        encode: ids of a text, without BOS; None without a tokenizer.
        bos_id: the token that begins every run, where there is one.
        label: tokens and text of (ids, number of the prompt); None without a tokenizer.
        bias: selection bias of a model layer, [expert]; None when its weights are not at hand.
        tokenizer_sha256: of its tokenizer.json.
    """

    name: str
    config: Mapping[str, Any]
    encode: Callable[[str], list[int]] | None = None
    bos_id: int | None = None
    label: Callable[[list[int], int], Labelled] | None = None
    bias: Callable[[int], np.ndarray] | None = None
    tokenizer_sha256: str | None = None

    @property
    def shape(self) -> Shape:
        """Its router's axes."""
        return Shape.of(self.config)

    def description(self) -> dict[str, Any]:
        """As a trace keeps it."""
        return {
            "name": self.name,
            "config": dict(self.config),
            "weights_sha256": None,
            "tokenizer_sha256": self.tokenizer_sha256,
        }


@dataclasses.dataclass(frozen=True)
class Words:
    """What a file, and the request that led to it, say of the tokens; None is what they do not say.

    Attributes:
        prompt, text: of the prompt, and of what was generated.
        prompt_ids, new_ids: their token ids.
        num_prompt, num_new: their number of tokens.
        pieces: text of every token where the engine gave it, prompt first.
    """

    prompt: str | None = None
    text: str | None = None
    prompt_ids: list[int] | None = None
    new_ids: list[int] | None = None
    num_prompt: int | None = None
    num_new: int | None = None
    pieces: Sequence[str | None] | None = None

    def completed(self, named: Named) -> "Words":
        """With the numbers that the ids give, and the ids that the model's tokenizer gives.

        Raises:
            TraceError: as many ids as there are tokens are not there.
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
    """Ids of a text by the model's own tokenizer, when they are as many as the engine counted."""
    if text is None or number is None or named.encode is None:
        return None
    ids = named.encode(text)
    with_bos = [] if named.bos_id is None or not begins else [[named.bos_id, *ids]]
    return next((candidate for candidate in (*with_bos, ids) if len(candidate) == number), None)


def _agreed(number: int | None, ids: list[int] | None, what: str) -> int | None:
    if number is not None and ids is not None and number != len(ids):
        raise TraceError(f"the {what} has {number} tokens by the engine's count, and {len(ids)} ids")
    return number if ids is None else len(ids)


def labelled(words: Words, named: Named, num_tokens: int) -> Labelled:
    """Tokens and text; where ids are unknown they are -1, where the text is unknown pieces are empty."""
    num_prompt = num_tokens if words.num_prompt is None else words.num_prompt
    ids = [*_or_unknown(words.prompt_ids, num_prompt), *_or_unknown(words.new_ids, num_tokens - num_prompt)]
    if named.label is not None and UNKNOWN not in ids:
        return named.label(ids, num_prompt)
    pieces = words.pieces if words.pieces is not None and len(words.pieces) == num_tokens else [None] * num_tokens
    tokens, text = [], b""
    for place, (token_id, piece) in enumerate(zip(ids, pieces, strict=True)):
        spelled = plain_text(piece or "", "a token's text").encode()
        tokens.append(Token(token_id, piece or "", len(text), len(text) + len(spelled), place >= num_prompt))
        text += spelled
    return tuple(tokens), text


def _or_unknown(ids: list[int] | None, number: int) -> list[int]:
    return [UNKNOWN] * number if ids is None else ids


def of_mixture_layers(ids: np.ndarray, shape: Shape, name: str) -> np.ndarray:
    """The rows of the mixture layers, [rows, moe_layer, slot], of an axis of these or of all layers.

    Which it is, is told by the length; dense layers, which come first, are dropped by their place.

    Raises:
        TraceError: the axis is as long as neither.
    """
    if ids.shape[1] == len(shape.moe_layers):
        return ids
    if ids.shape[1] == shape.num_layers:
        return ids[:, shape.num_dense :]
    raise TraceError(
        f"{name} has {ids.shape[1]} layers; the model named has {len(shape.moe_layers)} with experts and "
        f"{shape.num_layers} in all"
    )


def routed_slots(ids: np.ndarray, shape: Shape, name: str) -> np.ndarray:
    """The slots of routed experts; the one more that a fused shared expert takes is dropped, and everything checked.

    Raises:
        TraceError: there are other slots than the model has, or ids that it has not, or one twice for a token.
    """
    extra = ids.shape[2] - shape.top_k
    if extra == 1 and (ids[:, :, -1] >= shape.num_experts).all():
        ids = ids[:, :, :-1]
    elif extra:
        raise TraceError(f"{name} has {ids.shape[2]} experts to a token; the model named takes {shape.top_k}")
    if ids.size and ids.max() >= shape.num_experts:
        raise TraceError(f"{name} names expert {ids.max()} of a model with {shape.num_experts}")
    ordered = np.sort(ids, axis=-1)
    twice = (ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)
    if twice.any():
        row, layer, slot = (int(found[0]) for found in np.nonzero(twice))
        raise TraceError(
            f"{name} names expert {ordered[row, layer, slot]} twice in row {row}, L{shape.moe_layers[layer]}; "
            "the file belongs to another model, or the engine recorded nothing"
        )
    return ids


def placed(ids: np.ndarray, start: int, num_tokens: int, name: str) -> np.ndarray:
    """The rows at their tokens, from token `start` on; -1 where there is no row. int16 [token, moe_layer, rank].

    Raises:
        TraceError: the rows are not within the run, or it is longer than any.
    """
    end = start + len(ids)
    if num_tokens > MOST_TOKENS or num_tokens * math.prod(ids.shape[1:]) > MOST_CHOICES:
        raise TraceError(f"a run of {num_tokens:,} tokens is too long to show; record a shorter one")
    if start < 0 or end > num_tokens:
        raise TraceError(f"{name} has {len(ids)} rows from token {start} on, the run has {num_tokens} tokens")
    whole = np.full((num_tokens, *ids.shape[1:]), UNKNOWN, np.int16)
    whole[start:end] = ids
    return whole


def traced(
    named: Named,
    words: Words,
    expert_id: np.ndarray,
    engine: str,
    form: str,
    missing: Mapping[str, str],
    notes: Sequence[str] = (),
) -> Trace:
    """The trace of an engine's recording of ids.

    Args:
        named: the model.
        words: completed.
        expert_id: [token, moe_layer, rank].
        engine: what recorded it.
        form: the format it was read from.
        missing: what the trace does not hold -> why.
        notes: what a reader must know besides.
    """
    tokens, text = labelled(words, named, len(expert_id))
    ids = np.array([token.id for token in tokens], np.int32)
    data = xr.Dataset(
        {"token_id": (("token",), ids), "expert_id": (("token", "moe_layer", "rank"), expert_id.astype(np.int16))},
        coords={"moe_layer": list(named.shape.moe_layers)},
    )
    said = [*notes, *(note for note, holds in ((NO_IDS, (ids == UNKNOWN).any()), (RANKS, True)) if holds)]
    return Trace(
        data=data,
        tokens=tokens,
        text=text,
        request={"prompt": words.prompt, "max_new_tokens": sum(token.generated for token in tokens)},
        model=named.description(),
        origin=origin(engine, form, missing, said),
    )
