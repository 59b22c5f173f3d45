"""Hooks on a transformers model that record its routing, residual norms and attention, and apply edits.

`instrument` puts the hooks on once, before the model is shared. Each asks for the tape of the run; without one it
returns at once. What the experts receive counts: the hook before them records and edits. The modules beside the experts
return the logits, and in two families the finished assignment (model/families/router_outputs.py).

Shape suffixes: T tokens of a forward pass, C columns of the router's logits, D width of all residual streams.
"""

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from model.families.attention import Attended, watch_attention
from model.families.blocks import Block, Seam, argument_names, structure_of
from model.families.router_outputs import assignment_in, logits_in, lone_logits
from model.families.tape import RawRouting, Tape, current
from model.run.turns import PASSES

_ATTENTION_PATHS: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()


def instrument(model: nn.Module) -> Seam:
    """Put the hooks on a model, once, and return where they record; `blocks` is empty if it has no experts."""
    found = structure_of(model)
    for block in found.blocks.values():
        if block.takes_routing:
            before = partial(_before_experts, block, argument_names(block.experts[0]))
            block.experts[0].register_forward_pre_hook(before, with_kwargs=True)
        for child in block.module.children():
            if child not in block.experts:
                child.register_forward_hook(partial(_after_sibling, block))
    for index, path in enumerate(found.layers):
        layer = model.get_submodule(path)
        layer.register_forward_pre_hook(partial(_before_layer, index), with_kwargs=True)
        layer.register_forward_hook(partial(_after_layer, index))
    for path in found.attention:
        _ATTENTION_PATHS[model.get_submodule(path)] = path
    watch_attention(_receiver)
    return found


def _after_sibling(block: Block, module: nn.Module, _args: Any, output: Any) -> tuple | None:
    """Keep the logits that a module beside the experts returned; record and edit its finished assignment."""
    tape = current()
    if tape is None:
        return None
    if not block.takes_routing:
        assignment = assignment_in(output, block.num_computing, vars(module).get("top_k", block.top_k))
        if assignment is None:
            return None
        edited = _edited(tape, block, assignment.raw)
        return None if edited is None else assignment.write(edited)
    logits_TC = logits_in(output, block.num_computing)
    if logits_TC is not None:
        tape.decided(block.path, logits_TC, sure=True)
    else:
        logits_TC = lone_logits(output, block.num_computing)
        if logits_TC is not None:
            tape.decided(block.path, logits_TC, sure=False)
    return None


def _before_experts(
    block: Block, names: tuple[str, ...], _module: nn.Module, args: tuple, kwargs: dict[str, Any]
) -> tuple[tuple, dict[str, Any]] | None:
    """Record and edit the ids and weights that the experts are about to receive."""
    tape = current()
    if tape is None:
        return None
    states, ids_TK, weights_TK = (*args, *(kwargs[name] for name in names[len(args) :]))
    edited = _edited(tape, block, RawRouting(tape.logits_of(block.path), ids_TK, weights_TK))
    return None if edited is None else ((states, edited.ids_TK, edited.weights_TK), {})


def _edited(tape: Tape, block: Block, received: RawRouting) -> RawRouting | None:
    """Record what the experts receive, after an edit; return the edited routing for them, None without an edit."""
    block.observe(received)
    raw = block.in_columns(received)
    edited = tape.edited(block.path, raw)
    if edited is not raw:
        edited = block.in_dtypes_of(raw, edited)
    if tape.routing:
        tape.record("routing", block.path, edited)
    return None if edited is raw else block.for_experts(edited)


def _before_layer(index: int, _module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
    PASSES.pause()
    tape = current()
    if tape is None or not (tape.inputs or tape.norms and index == 0):
        return
    rows_TD = _rows(args[0] if args else kwargs["hidden_states"])
    if tape.norms and index == 0:
        tape.record("embedding", index, _norm(rows_TD))
    if tape.inputs:
        tape.record("inputs", index, rows_TD.clone())  # a layer may change its input in place


def _after_layer(index: int, _module: nn.Module, _args: Any, output: Any) -> None:
    tape = current()
    if tape is not None and tape.norms:
        tape.record("norms", index, _norm(_rows(output[0] if isinstance(output, tuple) else output)))


def _rows(residual: Tensor) -> Tensor:
    """Return the residual stream [B, T, ...] as [T, D]; several streams become one row."""
    return residual[0].flatten(1)


def _norm(rows_TD: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows_TD, dim=-1, dtype=torch.float32)


def _receiver(module: nn.Module) -> Callable[[Attended], None] | None:
    """Return where the current run records the attention of a module; None if it does not."""
    tape = current()
    if tape is None or not tape.attention:
        return None
    path = _ATTENTION_PATHS.get(module)
    return partial(tape.record, "attention", path) if path in tape.attention else None
