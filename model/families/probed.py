"""What a probe finds out about a loaded model: its axes, its router's rule, and the attention that a run can record.

Shape suffixes: T tokens of the probe, H heads, S keys.
"""

import dataclasses
import importlib.metadata
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from model.checkpoint.header import CheckpointError, first_line
from model.families.blocks import Block, Seam, refuse_unequal
from model.families.factor import measure_factors
from model.families.found import Found
from model.families.passes import cache_argument
from model.families.rule import Case, find_rule
from model.families.seam import instrument
from model.families.sizes import WINDOW, whole
from model.families.tape import Pass, Tape
from model.trace.router_rule import IDENTITY, RouterRule
from model.trace.shape import LOGIT, PROBABILITY, RouterFacts, Shape

PROBE_TOKENS = 32
# Largest difference of two logits, relative to the largest logit, that rounding and near ties of the router explain.
UNEQUAL, UNEQUAL_ROUNDED = 1e-2, 0.25
UNEXPLAINED = 1e-2  # largest part of an attention's output that recorded weights may leave unexplained


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The axes of a run; see `model.run.protocol.ModelLayout`."""

    num_layers: int
    num_heads: int
    moe_layers: tuple[int, ...]
    num_experts: int
    top_k: int
    vocab_size: int
    num_groups: int = 1
    num_kept_groups: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Probed:
    """The result of a probe.

    Attributes:
        blocks: the routing blocks that a text runs, by their label on the axis `moe_layer`.
        shape, facts: the entries `shape` and `router` of the traces.
        found: the router's rule in each block.
        layout: the axes of a run.
        attention: layer -> path of the attention module whose weights are recorded.
        window: number of keys that layers with a sliding window keep; None: not stated.
        compressed: layers whose attention also reads keys of compressed blocks.
        has_one_stream: whether one residual stream passes through the layers, so that layer inputs can be recorded.
        notes: sentences for the user.
    """

    blocks: Mapping[int, Block]
    shape: Shape
    facts: RouterFacts
    found: Found
    layout: Layout
    attention: Mapping[int, str]
    window: int | None
    compressed: frozenset[int]
    has_one_stream: bool
    notes: tuple[str, ...]

    @property
    def paths(self) -> dict[int, str]:
        """The path of each routing block by its label."""
        return {label: block.path for label, block in self.blocks.items()}

    @property
    def without_rule(self) -> RouterFacts:
        """The facts about the router for a run that the rule does not explain."""
        note = "the rule that a probe found does not give the experts and weights of this run"
        return dataclasses.replace(self.facts, rule=None, note=note)


def probe_ids(vocab_size: int) -> list[int]:
    """Return the token ids of a probe: the same for every model with this vocabulary."""
    drawn = torch.randint(vocab_size, (PROBE_TOKENS,), generator=torch.Generator().manual_seed(0))
    return drawn.tolist()


def probe_or_refuse(model: nn.Module, text_config: Any, device: torch.device, once: bool, name: str) -> Probed:
    """Instrument a model and return what a probe shows; see `probe`.

    Raises:
        CheckpointError: see `probe`; or the code of transformers fails in the probe.
    """
    try:
        return probe(model, instrument(model), text_config, device, once)
    except (AttributeError, TypeError, IndexError, KeyError, NotImplementedError, RuntimeError) as error:
        version = importlib.metadata.version("transformers")
        raise CheckpointError(
            f"transformers {version} cannot run {name}: {first_line(error)}; try another version of transformers"
        ) from error


@torch.inference_mode()
def probe(model: nn.Module, seam: Seam, text_config: Any, device: torch.device, once: bool = False) -> Probed:
    """Run a probe through an instrumented model, and return what it shows.

    Args:
        model: the model; no other thread runs it meanwhile.
        seam: where it records.
        text_config: the configuration of its language model.
        device: the device of its inputs.
        once: run the model only once, as each pass reads all weights from the disk; then the factor of the blocks
            stays unknown, and tokens fed alone are not compared with a prompt.

    Raises:
        CheckpointError: no experts run for a text, or the blocks differ in the numbers of experts.
    """
    token_ids_T = torch.tensor(probe_ids(int(text_config.vocab_size)), device=device)
    tape = Tape(attention=frozenset(seam.attention), inputs=True)
    with tape.running():
        logits_V = fed(model, token_ids_T).logits[0, -1]
    recorded, config = tape.take(), text_config.to_dict()
    blocks = _labelled([seam.blocks[path] for path in recorded.routing])  # in the order in which they ran
    if not blocks:
        raise CheckpointError("no layer of this model sends a text to experts")
    found = find_rule({block.path: _case(block, recorded) for block in blocks.values()}, config, token_ids_T.cpu())
    attention, num_heads, notes = _attention(seam, recorded)
    if tuple(blocks) != tuple(block.layer for block in blocks.values()):
        notes = (
            *notes,
            f"layers have more than one block of experts; layer numbers count these blocks, {_named(blocks)}",
        )
    stream = recorded.inputs[0].shape[-1]
    if stream != (width := config.get("hidden_size") or stream):
        notes = (*notes, f"a residual norm is that of all {stream // width} residual streams together")
    shape = _shape(blocks, len(seam.layers), num_heads, width, int(config["vocab_size"]))
    factor = None if once else _factor(model, blocks, token_ids_T)
    if bool(logits_V.isfinite().all()):
        notes = (*notes, *_factor_notes(factor), *(() if once else _step_notes(model, token_ids_T, logits_V)))
    else:
        notes = ("the logits of a probe are not finite, so nothing here can be trusted; let Doctor audit the weights",)
    kinds = config.get("layer_types") or ()
    return Probed(
        blocks=blocks,
        shape=shape,
        facts=_facts(blocks, found, factor),
        found=found,
        layout=_layout(shape, found.rule),
        attention=attention,
        window=whole(text_config, *WINDOW),
        compressed=frozenset(layer for layer, kind in enumerate(kinds) if "compress" in str(kind)),
        has_one_stream=stream == shape.width,
        notes=(*found.notes, *notes),
    )


def fed(model: nn.Module, token_ids_T: Tensor, begin: int = 0, cache: Any = None) -> Any:
    """Return the output of a forward pass with a cache; `begin` is the position of the first token.

    Positions are always stated, because some families count them wrongly themselves (MiniMax, from an empty cache).
    """
    positions_T = torch.arange(begin, begin + len(token_ids_T), device=token_ids_T.device)
    with_cache = cache_argument(model, cache)
    return model(input_ids=token_ids_T[None], position_ids=positions_T[None], use_cache=True, **with_cache)


def _step_notes(model: nn.Module, token_ids_T: Tensor, prompt_V: Tensor) -> tuple[str, ...]:
    """Return a note if a token fed alone gives other logits than `prompt_V`, those at the end of the prompt."""
    cache = fed(model, token_ids_T[:-1]).past_key_values
    alone_V = fed(model, token_ids_T[-1:], len(token_ids_T) - 1, cache).logits[0, -1]
    apart = float((prompt_V.float() - alone_V.float()).abs().max() / prompt_V.float().abs().max())
    if apart <= (UNEQUAL if prompt_V.dtype == torch.float32 else UNEQUAL_ROUNDED):
        return ()
    return (
        "transformers computes other logits for a token that is fed alone than for the same token at the end of a "
        f"prompt (in a probe, {apart:.0%} of the largest logit apart); generated text depends on it",
    )


def _named(blocks: Mapping[int, Block]) -> str:
    return ", ".join(f"{label}: {block.path}" for label, block in list(blocks.items())[:2]) + " and so on"


def _shape(blocks: Mapping[int, Block], num_layers: int, num_heads: int, width: int, vocab_size: int) -> Shape:
    block = _first_of_equal(blocks)
    return Shape(
        num_layers=num_layers,
        moe_layers=tuple(blocks),
        blocks=tuple(block.path for block in blocks.values()),
        num_heads=num_heads or None,
        num_experts=block.num_experts,
        top_k=block.top_k,
        idle_from=block.idle_from,
        width=width,
        vocab_size=vocab_size,
    )


def _layout(shape: Shape, rule: RouterRule | None) -> Layout:
    assert shape.num_experts is not None
    assert shape.top_k is not None
    assert shape.vocab_size is not None
    return Layout(
        num_layers=shape.num_layers,
        num_heads=shape.num_heads or 0,
        moe_layers=shape.moe_layers,
        num_experts=shape.num_experts,
        top_k=shape.top_k,
        vocab_size=shape.vocab_size,
        num_groups=rule.num_groups if rule else 1,
        num_kept_groups=rule.num_kept_groups if rule else 1,
    )


def _factor(model: nn.Module, blocks: Mapping[int, Block], token_ids_T: Tensor) -> float | None:
    """Return the factor that all blocks put on their experts' sum; None if there is none, or the blocks differ."""
    position_ids = torch.arange(len(token_ids_T), device=token_ids_T.device)[None]
    factors = measure_factors(
        blocks.values(), lambda: model(input_ids=token_ids_T[None], position_ids=position_ids, use_cache=False)
    )
    return next(iter(factors.values())) if len(set(factors.values())) == 1 else None


def _factor_notes(factor: float | None) -> tuple[str, ...]:
    if factor is None or factor == 1:
        return ()
    return (f"each block multiplies the sum of its experts by {factor:g}; gate weights are those before this factor",)


def _facts(blocks: Mapping[int, Block], found: Found, block_factor: float | None) -> RouterFacts:
    is_probability = found.rule is not None and found.rule.scoring == IDENTITY
    return RouterFacts(
        rule=found.rule,
        table_layers=tuple(label for label, block in blocks.items() if found.blocks[block.path].table is not None),
        logit_kind=PROBABILITY if is_probability else LOGIT,
        block_factor=block_factor,
        note=found.reason,
    )


def _labelled(blocks: list[Block]) -> dict[int, Block]:
    """Return blocks by label: the model's layer numbers; if a layer has two blocks, the blocks counted from 0."""
    layers = [block.layer for block in blocks]
    labels = layers if len(set(layers)) == len(layers) else range(len(blocks))
    return dict(zip(labels, blocks, strict=True))


def _first_of_equal(blocks: Mapping[int, Block]) -> Block:
    refuse_unequal({(block.num_experts, block.top_k, block.idle_from) for block in blocks.values()})
    return next(iter(blocks.values()))


def _case(block: Block, recorded: Pass) -> Case:
    return Case(recorded.routing[block.path], block.tensors(), block.slots, block.hash_table())


def _attention(seam: Seam, recorded: Pass) -> tuple[dict[int, str], int, tuple[str, ...]]:
    """Return layer -> path of the modules with the most common number of heads, this number, and notes."""
    heads = {
        path: len(weights_HTS)
        for path, (weights_HTS, error) in recorded.attention.items()
        if float(error) <= UNEXPLAINED and weights_HTS.shape[-1] >= weights_HTS.shape[-2]
    }
    if not heads:
        return {}, 0, ("no layer of this model has attention weights that can be recorded",)
    counts = list(heads.values())
    common = max(set(counts), key=lambda count: (counts.count(count), count))
    by_layer: dict[int, str] = {}
    for path, number in heads.items():
        if number == common:
            by_layer.setdefault(seam.attention[path], path)
    others = [path for path in heads if by_layer.get(seam.attention[path], path) != path]
    notes = [f"a layer has several attention modules; {others[0]} and its like are not recorded"] if others else []
    if missing := sorted(set(range(len(seam.layers))) - by_layer.keys()):
        numbers = ", ".join(map(str, missing))
        notes.append(f"attention is recorded in {len(by_layer)} of {len(seam.layers)} layers, not in {numbers}")
    return by_layer, common, tuple(notes)
