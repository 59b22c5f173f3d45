import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from model.families.blocks import Block
from model.families.edit import edits
from model.families.folder import open_folder
from model.families.passes import cache_argument
from model.families.seam import instrument
from model.families.tape import Pass, RawRouting, Tape
from model.run.interventions import ScoreThreshold
from tests.families import FAMILIES, WRAPPERS, Watched, build, saved, watched
from tests.router_rules import check_rule_and_edits, found_in, routing_of

ROUTED = [name for name in FAMILIES if name != "doge"]  # its experts are embeddings, found by product keys
# The wrapper of Llama 4 in transformers 5.24 asks its language model for an output that it does not have.
BROKEN = {"llama4"} if transformers.__version__.startswith("5.24.") else set()
PROMPT, GENERATED = list(range(3, 27)), [41, 42, 43]
STREAMS = {"deepseek_v4": 4, "hy_v4": 4, "glm5_next": 4, "qwen4_exp_text": 2}


def run(model: nn.Module, tape: Tape | None = None, changed: Callable[[Tape], None] = lambda tape: None) -> Any:
    """Return the logits [T, V] of a prompt and of tokens fed one by one, and what the tape recorded in each pass."""
    cache, logits, passes = None, [], []
    for start, tokens in [(0, PROMPT), *((len(PROMPT) + at, [token]) for at, token in enumerate(GENERATED))]:
        positions = torch.arange(start, start + len(tokens))[None]
        arguments = {"input_ids": torch.tensor([tokens]), "position_ids": positions}
        arguments |= cache_argument(model, cache)
        with torch.inference_mode():
            if tape is None:
                output = model(**arguments, use_cache=True)
            else:
                with tape.running():
                    output = model(**arguments, use_cache=True)
                passes.append(tape.take())
        cache = output.past_key_values
        logits.append(output.logits[0])
    return torch.cat(logits), passes


class Received:
    """Copies of what each block's experts received, in a second way: a wrapper around their `forward`."""

    def __init__(self, blocks: list[Block]) -> None:
        self.calls: dict[str, list[tuple[Tensor, Tensor]]] = {block.path: [] for block in blocks}
        self.experts = {block.path: block.experts[0] for block in blocks}

    def __enter__(self) -> "Received":
        for path, experts in self.experts.items():
            experts.forward = self._wrapped(path, experts.forward)
        return self

    def __exit__(self, *_: object) -> None:
        for experts in self.experts.values():
            del experts.forward

    def _wrapped(self, path: str, forward: Callable) -> Callable:
        def call(*args: Tensor, **kwargs: Tensor) -> Tensor:
            _, ids, weights = (*args, *kwargs.values())
            self.calls[path].append((ids.clone(), weights.clone()))
            return forward(*args, **kwargs)

        return call


@pytest.mark.parametrize("model_type", ROUTED)
def test_every_folder_is_opened_recorded_and_edited_to_the_bit(model_type: str) -> None:
    plain, _ = run(build(model_type))
    model = open_folder(saved(model_type), torch.device("cpu")).model
    seam = instrument(model)
    assert torch.equal(run(model)[0], plain)
    tape = Tape(attention=seam.attention.keys(), inputs=True)
    with Received([block for block in seam.blocks.values() if block.takes_routing]) as received:
        logits, passes = run(model, tape)
    assert torch.equal(logits, plain)
    ran = {path: block for path, block in seam.blocks.items() if "vision" not in path}
    for path, block in ran.items():
        check_routing(block, [one.routing[path] for one in passes], received.calls.get(path, []))
    assert all(one.routing.keys() == ran.keys() for one in passes)
    check_residual_stream(model_type, len(seam.layers), passes)
    assert all(one.attention.keys() == seam.attention.keys() for one in passes)
    assert max([float(part.error) for one in passes for part in one.attention.values()], default=0) < 1e-5
    check_replay(model, plain, passes)
    check_rule_and_edits(model_type, Watched(model, seam))


@pytest.mark.parametrize("model_type", [name for name in WRAPPERS if name not in BROKEN])
def test_a_folder_of_a_multimodal_model_runs_its_language_model(model_type: str) -> None:
    tokens, expected = PROMPT[:8], watched(model_type).logits(PROMPT[:8])
    opened, tape = open_folder(saved(model_type), torch.device("cpu")), Tape()
    assert opened.config["model_type"] == model_type
    assert opened.notes[0] == (
        f"{model_type} wraps the language model {WRAPPERS[model_type]}; a run uses that model alone, without images or "
        "sound"
    )
    seam = instrument(opened.model)
    assert torch.equal(Watched(opened.model, seam).logits(tokens, tape), expected)
    routing = tape.take().routing
    assert routing.keys() == seam.blocks.keys()
    assert {raw.ids_TK.shape for raw in routing.values()} == {(8, 3)}


def check_routing(block: Block, recorded: list[RawRouting], received: list[tuple[Tensor, Tensor]]) -> None:
    for raw, (ids_TK, weights_TK) in zip(recorded, received, strict=block.takes_routing):
        assert torch.equal(block.for_experts(raw).ids_TK, ids_TK)
        assert torch.equal(raw.weights_TK, weights_TK)
    for raw, num_tokens in zip(recorded, [len(PROMPT), 1, 1, 1], strict=True):
        assert raw.ids_TK.shape == raw.weights_TK.shape == (num_tokens, block.top_k)
        assert raw.logits_TC.shape == (num_tokens, block.num_experts)
        assert all(len(set(row)) == len(row) for row in raw.ids_TK.tolist())


def check_residual_stream(model_type: str, num_layers: int, passes: list[Pass]) -> None:
    for one in passes:
        rows = torch.stack([one.inputs[layer] for layer in range(num_layers)])
        assert rows.shape[-1] == 64 * STREAMS.get(model_type, 1)
        norms = torch.stack([one.embedding_norm, *(one.norms[layer] for layer in range(num_layers))])
        torch.testing.assert_close(norms[:-1], rows.norm(dim=-1), rtol=1e-5, atol=0)


def check_replay(model: nn.Module, plain: Tensor, passes: list[Pass]) -> None:
    """Replay the run's own routing to the bit, and see that an edit reaches the experts."""
    own = {path: [one.routing[path] for one in passes] for path in passes[0].routing}
    starts = list(itertools.accumulate([len(PROMPT), *[1] * len(GENERATED)], initial=0))

    def replayed(path: str) -> Callable[[RawRouting, int], RawRouting]:
        def edit(raw: RawRouting, start: int) -> RawRouting:
            given = own[path][starts.index(start)]
            return RawRouting(raw.logits_TC, given.ids_TK.clone(), given.weights_TK.clone())

        return edit

    assert torch.equal(run(model, Tape({path: replayed(path) for path in own}))[0], plain)
    path = list(own)[-1]
    halved = Tape({path: lambda raw, _start: raw._replace(weights_TK=raw.weights_TK / 2)}, norms=False)
    logits, passes = run(model, halved)
    assert torch.equal(passes[0].routing[path].weights_TK, own[path][0].weights_TK / 2)
    assert not torch.equal(logits, plain)


@pytest.mark.parametrize("model_type", ["qwen3_moe", "gpt_oss", "deepseek_v4", "llama4_text", "jetmoe", "lfm2_moe"])
def test_bf16_logits_are_the_same_to_the_bit(model_type: str) -> None:
    model = build(model_type, dtype=torch.bfloat16)
    plain, _ = run(model)
    seam = instrument(model)
    logits, passes = run(model, Tape(attention=seam.attention.keys(), inputs=True))
    assert torch.equal(logits, plain)
    assert max(float(part.error) for one in passes for part in one.attention.values()) < 0.03


def test_a_model_without_a_seam_has_no_blocks() -> None:
    assert not watched("doge").seam.blocks
    assert not instrument(nn.Sequential(nn.Linear(4, 4))).blocks


def test_a_pass_must_be_taken_before_the_next() -> None:
    model, tape = watched("qwen3_moe"), Tape()
    model.logits(PROMPT, tape)
    with pytest.raises(RuntimeError, match="take the last pass"):
        model.logits(PROMPT, tape)
    assert len(tape.take().routing) == 4
    assert not tape.take().routing


def test_a_tape_records_only_what_it_wants() -> None:
    model = watched("qwen3_moe")
    tape = Tape(routing=False, norms=False)
    model.logits(PROMPT, tape)
    assert tape.take() == Pass({}, {}, None, {}, {})
    assert tape.position == len(PROMPT)


def test_columns_that_the_experts_do_not_accept() -> None:
    model: Watched = watched("zaya")
    tape = Tape()
    model.logits(PROMPT, tape)
    taken = tape.take().routing
    for path, block in model.seam.blocks.items():
        assert (block.num_experts, block.slots, block.idle_from) == (9, 8, 8)
        idle_TK = taken[path].weights_TK == 0
        assert torch.equal(taken[path].ids_TK == 8, idle_TK)
    block = next(iter(model.seam.blocks.values()))
    raw = RawRouting(None, torch.tensor([[3], [0]]), torch.tensor([[0.5], [0.0]]))
    edited = block.in_dtypes_of(raw, RawRouting(None, torch.tensor([[8], [2]]), torch.tensor([[0.7], [0.25]])))
    assert (edited.ids_TK.tolist(), edited.weights_TK.tolist()) == ([[8], [2]], [[0.0], [0.25]])
    assert block.for_experts(edited).ids_TK.tolist() == [[0], [2]]


def test_expert_0_whose_affinity_rounds_to_0_is_told_from_a_column_that_computes_nothing() -> None:
    """In fp16 the affinity of expert 0 is 0 in all rows; its bias lets it win in the first two."""
    block = instrument(build("zaya")).blocks["model.layers.0.mlp"]
    block.columns, block.top_k = 9, 1
    biases_C = next(tensor for name, tensor in block.tensors().items() if name.endswith("balancing_biases"))
    logits_TC = torch.full((3, 9), -30.0, dtype=torch.float16)
    logits_TC[:, 1], logits_TC[2, 8] = 0, 1.0
    received = RawRouting(logits_TC, torch.zeros(3, 1, dtype=torch.long), torch.zeros(3, 1, dtype=torch.float16))
    biases_C.zero_()[0] = 0.5
    assert block.in_columns(received).ids_TK.tolist() == [[0], [0], [8]]


def test_an_edit_that_takes_the_weight_of_expert_0_keeps_its_column() -> None:
    """Zaya: a threshold above every affinity gives weight 0 to all, and no other choice to any."""
    model = watched("zaya")
    before = routing_of(model, PROMPT)
    found = found_in(model, before, PROMPT)
    changes = edits([ScoreThreshold(0.99)], found, dict(enumerate(found.blocks)))
    path = next(path for path, raw in before.items() if bool((raw.ids_TK == 0).any()))
    after = routing_of(model, PROMPT, Tape({path: changes[path]}, norms=False))
    assert bool((after[path].weights_TK[before[path].ids_TK == 0] == 0).all())
    assert torch.equal(after[path].ids_TK, before[path].ids_TK)
