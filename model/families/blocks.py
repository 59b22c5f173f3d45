"""The routing blocks, layers and attention modules of a transformers model, found by structure and not by class name.

Experts are modules called with (states, ids, weights). Where a model has none, they are modules that own stacked
weights beside a matrix with one row per expert. The layers are the modules of the list that contains the blocks.

Shape suffixes: T tokens of a forward pass, K selected.
"""

import collections
import dataclasses
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

from torch import Tensor, nn

from model.checkpoint.header import CheckpointError
from model.families.sizes import TOP_K, whole
from model.families.tape import RawRouting


@dataclasses.dataclass(eq=False)
class Block:
    """Experts and the modules that decide among them.

    Attributes:
        path: path of the module that contains both.
        layer: index of its layer.
        module: that module.
        experts: the modules with the weights; two in JetMoe.
        num_computing: number of experts that compute something.
        slots: number of ids that the experts accept; those from `num_computing` on compute nothing.
        columns: width of the router's logits; None before the first recorded pass.
        top_k: selected experts per token; None before the first recorded pass.
        takes_routing: whether the experts are called with ids and weights.
    """

    path: str
    layer: int
    module: nn.Module
    experts: tuple[nn.Module, ...]
    num_computing: int
    slots: int
    takes_routing: bool
    columns: int | None = None
    top_k: int | None = None

    @property
    def num_experts(self) -> int:
        """The number of choices: columns of the router, also those that compute nothing."""
        return self.slots if self.columns is None else max(self.columns, self.slots)

    @property
    def idle_from(self) -> int | None:
        """The first choice that computes nothing; None if every choice is an expert."""
        return self.num_computing if self.num_experts > self.num_computing else None

    @property
    def rests(self) -> bool:
        """Whether only images reach the block (Ernie 4.5 VL)."""
        return "vision" in self.path

    @property
    def stated_top_k(self) -> int | None:
        """The number of selected experts that the block or its router states; None if neither does."""
        around = [part for child in self.module.children() if child not in self.experts for part in child.modules()]
        return next((value for part in (self.module, *around) if (value := whole(part, *TOP_K))), None)

    def observe(self, raw: RawRouting) -> None:
        """Learn the widths from a recorded routing."""
        if self.top_k is None:
            self.top_k = raw.ids_TK.shape[-1]
            self.columns = None if raw.logits_TC is None else raw.logits_TC.shape[-1]

    def in_columns(self, received: RawRouting) -> RawRouting:
        """Return what the experts received, with the router's columns as ids; the same object if these are the ids.

        Expert 0 with weight 0 stands for the column that the experts do not accept, unless expert 0 has the higher
        biased score: then its affinity is rounded to 0 (Zaya: softmax, and a bias for each column).
        """
        logits_TC, ids_TK, weights_TK = received
        if logits_TC is None or self.num_experts <= self.slots:
            return received
        scores_TC = logits_TC.softmax(-1).float()
        for name, tensor, read in self._owned():  # the own bias of a linear layer is in its logits already
            if tensor.shape == scores_TC.shape[-1:] and name.rpartition(".")[2] not in ("bias", "weight"):
                scores_TC = scores_TC + read().to(scores_TC)
        is_beyond_T1 = scores_TC[:, self.slots :].amax(-1, keepdim=True) >= scores_TC[:, :1]
        return received._replace(
            ids_TK=ids_TK.masked_fill((ids_TK == 0) & (weights_TK == 0) & is_beyond_T1, self.slots)
        )

    def in_dtypes_of(self, raw: RawRouting, edited: RawRouting) -> RawRouting:
        """Return an edited routing in the dtypes of the unedited one; columns that the experts do not accept get 0."""
        ids_TK, weights_TK = edited.ids_TK.to(raw.ids_TK), edited.weights_TK.to(raw.weights_TK)
        return RawRouting(raw.logits_TC, ids_TK, weights_TK.masked_fill(ids_TK >= self.slots, 0))

    def for_experts(self, raw: RawRouting) -> RawRouting:
        """Return a routing with ids that the experts accept."""
        return raw._replace(ids_TK=raw.ids_TK.masked_fill(raw.ids_TK >= self.slots, 0))

    def tensors(self) -> dict[str, Tensor]:
        """Return the router's tensors by their path in the block: vectors, and matrices with an axis of experts.

        They are detached. Tensors of an offloaded model are read from where they wait for the next pass.
        """
        small = {}
        for name, tensor, read in self._owned():
            if tensor.dim() <= 1 or tensor.dim() == 2 and set(tensor.shape) & {self.num_experts, self.num_computing}:
                small[name] = read().detach()
        return small

    def hash_table(self) -> Tensor | None:
        """Return the table [vocabulary, K] that gives the experts of each token id; None if logits decide."""
        tables = [read() for _, tensor, read in self._owned() if tensor.dim() == 2 and not tensor.is_floating_point()]
        return tables[0].detach() if tables else None

    def _owned(self) -> Iterator[tuple[str, Tensor, Callable[[], Tensor]]]:
        """Yield name, tensor (perhaps on the meta device) and a function that reads it, without the experts."""
        skipped = {module for experts in self.experts for module in experts.modules()}
        for path, owner in self.module.named_modules():
            if owner in skipped:
                continue
            for name, tensor in (*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)):
                yield f"{path}.{name}".lstrip("."), tensor, partial(_read, owner, name, tensor)


def _read(owner: nn.Module, name: str, tensor: Tensor) -> Tensor:
    hook = getattr(owner, "_hf_hook", None)  # of accelerate: what is offloaded is on the meta device between passes
    weights = getattr(hook, "weights_map", None)
    return weights[name] if tensor.is_meta and weights is not None else tensor


@dataclasses.dataclass(frozen=True)
class Seam:
    """The places of a model that are worth recording.

    Attributes:
        blocks: routing blocks by path, in the order of the model. A block that a text model never runs (the experts
            for images of Ernie 4.5 VL) is among them: the first recorded pass shows which run.
        layers: paths of the decoder layers, in order; empty without blocks.
        attention: path of each attention module whose weights can be recorded -> its layer.
    """

    blocks: Mapping[str, Block]
    layers: tuple[str, ...]
    attention: Mapping[str, int]


def structure_of(model: nn.Module) -> Seam:
    """Return the structure of a model, which may be on the meta device."""
    modules = dict(model.named_modules())
    blocks = {path: block for path, module in modules.items() if (block := _block(path, module)) is not None}
    lists = collections.Counter(_split(path)[0] for path in blocks)
    if not lists:
        return Seam({}, (), {})
    layer_list = lists.most_common(1)[0][0]  # towers and prediction modules have lists of their own
    layers = tuple(f"{layer_list}.{name}" for name, _ in modules[layer_list].named_children())
    attention = {
        path: int(_split(path)[1])
        for path, module in modules.items()
        if path.startswith(f"{layer_list}.") and _calls_attention(module)
    }
    return Seam({path: block for path, block in blocks.items() if _split(path)[0] == layer_list}, layers, attention)


def refuse_unequal(kinds: Collection[tuple[int, int | None, int | None]]) -> None:
    """Refuse a model whose layers differ in their experts.

    Args:
        kinds: number of experts, number per token, and another number by which blocks differ.

    Raises:
        CheckpointError: there is more than one kind.
    """
    if len(kinds) > 1:
        sizes = ", ".join(f"{top_k} of {number}" for number, top_k, _ in sorted(kinds, key=str))
        raise CheckpointError(f"the layers of this model differ in their experts ({sizes}), which is not supported")


def _split(path: str) -> tuple[str, str]:
    """Return the path of the list of layers and the layer's index in it, both empty if the path has no number."""
    match = re.match(r"(.*?)\.(\d+)(\.|$)", path)
    return (match[1], match[2]) if match else ("", "")


def _block(path: str, module: nn.Module) -> Block | None:
    """Return the block whose experts are children of the module; None if it has none."""
    layer_list, layer = _split(path)
    children = list(module.children())
    routed = [child for child in children if _takes_routing(child)]
    experts = routed or [child for child in children if _is_stacked(child) and _has_router(child, children)]
    if not experts or not layer_list:
        return None
    sizes = {weight.shape[0] for child in experts for weight in child.parameters() if weight.dim() == 3}
    sizes = sizes or {int(vars(experts[0])["num_experts"])}  # flattened weights do not show the number (DBRX)
    return Block(path, int(layer), module, tuple(experts), min(sizes), max(sizes), bool(routed))


def argument_names(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the arguments of a module's `forward`."""
    return tuple(inspect.signature(type(module).forward).parameters)[1:]


def _takes_routing(module: nn.Module) -> bool:
    names = argument_names(module)
    return len(names) == 3 and "ind" in names[1] and "weights" in names[2]


def _is_stacked(module: nn.Module) -> bool:
    own = [weight for weight in module.parameters(recurse=False) if weight.dim() == 3]
    return bool(own) and not isinstance(module, nn.Conv1d)


def _has_router(experts: nn.Module, siblings: list[nn.Module]) -> bool:
    number = next(weight.shape[0] for weight in experts.parameters(recurse=False) if weight.dim() == 3)
    others = (weight for child in siblings if child is not experts for weight in child.parameters())
    return any(weight.dim() == 2 and weight.shape[0] == number for weight in others)


def _calls_attention(module: nn.Module) -> bool:
    """Return whether the module attends to tokens: `forward` takes a mask and calls a registered attention function.

    Inkling 2 attends to the outputs of earlier layers, too, without a mask.
    """
    forward = inspect.unwrap(type(module).forward)
    calls = "ALL_ATTENTION_FUNCTIONS" in getattr(getattr(forward, "__code__", None), "co_names", ())
    return calls and "attention_mask" in argument_names(module)
