import pytest
import torch
from torch import Tensor
from transformers.models.jetmoe.modeling_jetmoe import JetMoeTopKGating
from transformers.models.llama4.modeling_llama4 import Llama4Router

from model.families.router_outputs import assignment_in, logits_in, lone_logits
from model.families.seam import instrument
from model.families.tape import RawRouting, Tape
from tests.families import Watched, build, config_of


def by_hand(logits_TE: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    chosen = logits_TE.topk(top_k)
    return chosen.indices, chosen.values


def test_scores_of_all_experts() -> None:
    router = Llama4Router(config_of("llama4_text"))
    output = router(torch.randn(5, 64))
    assignment = assignment_in(output, 8, None)
    assert assignment is not None
    ids_TK, values_TK = by_hand(output[1], 3)
    assert torch.equal(assignment.raw.ids_TK, ids_TK)
    assert torch.equal(assignment.raw.weights_TK, values_TK.sigmoid())
    assert all(map(torch.equal, assignment.write(assignment.raw), output))


def test_the_number_of_selected_experts_may_be_known_before() -> None:
    scores_TE = torch.tensor([[0.0, 0.7, 0.0, 0.2]])
    assignment = assignment_in((scores_TE, torch.tensor([[-3.0, 0.8, -2.0, -1.4]])), 4, 2)
    assert assignment is not None
    assert assignment.raw.ids_TK.tolist() == [[1, 3]]


def test_scores_that_round_to_0_select_the_experts_of_their_logits() -> None:
    """Llama 4 in fp16: the sigmoid of -20 and of -19 is 0."""
    logits_TE = torch.tensor([[-30.0, -20.0, -40.0, -19.0]], dtype=torch.float16)
    assignment = assignment_in((torch.zeros_like(logits_TE), logits_TE), 4, 2)
    assert assignment is not None
    assert assignment.raw.ids_TK.tolist() == [[3, 1]]
    assert assignment.raw.weights_TK.tolist() == [[0, 0]]


def test_the_number_of_experts_of_a_router_does_not_depend_on_its_first_scores() -> None:
    model = build("llama4_text", dtype=torch.float16)
    seam, tape = instrument(model), Tape(norms=False)
    for block in seam.blocks.values():
        block.module.router.register_forward_pre_hook(lambda _module, args: (args[0] * 0 - 1e3,))
        block.module.router.weight.data.fill_(1.0)
    Watched(model, seam).logits([5], tape)
    assert {raw.ids_TK.shape[-1] for raw in tape.take().routing.values()} == {3}


def test_tokens_sorted_by_expert() -> None:
    router = JetMoeTopKGating(64, 8, 3)
    output = router(torch.randn(5, 64))
    assignment = assignment_in(output, 8, None)
    assert assignment is not None
    ids_TK, values_TK = by_hand(output[4], 3)
    assert torch.equal(assignment.raw.ids_TK, ids_TK)
    assert torch.equal(assignment.raw.weights_TK, values_TK.softmax(-1))
    written = assignment.write(assignment.raw)
    assert written[3] == output[3]
    # Within an expert, tokens may stand in another order.
    assert sorted(zip(written[0].tolist(), written[2].tolist(), strict=True)) == sorted(
        zip(output[0].tolist(), output[2].tolist(), strict=True)
    )


def test_a_changed_assignment_is_sorted_anew() -> None:
    logits = torch.zeros(2, 3)
    places = torch.tensor([1, 3, 0, 2])  # ids [[2, 0], [2, 1]]: expert 0 has place 1, expert 1 place 3
    assignment = assignment_in((places, places // 2, torch.tensor([0.1, 0.2, 0.3, 0.4]), [1, 1, 2], logits), 3, None)
    assert assignment is not None
    assert assignment.raw.ids_TK.tolist() == [[2, 0], [2, 1]]
    torch.testing.assert_close(assignment.raw.weights_TK, torch.tensor([[0.3, 0.1], [0.4, 0.2]]))
    new = assignment.write(RawRouting(logits, torch.tensor([[1, 0], [2, 1]]), torch.tensor([[5.0, 6.0], [7.0, 8.0]])))
    assert [part.tolist() if isinstance(part, Tensor) else part for part in new[:4]] == [
        [1, 0, 3, 2],
        [0, 0, 1, 1],
        [6.0, 5.0, 8.0, 7.0],
        [1, 2, 1],
    ]


LOGITS, IDS = torch.randn(5, 8), torch.zeros(5, 2, dtype=torch.long)


@pytest.mark.parametrize(
    ("output", "is_found"),
    [
        ((LOGITS, torch.randn(5, 2), IDS), True),
        ((torch.randn(5, 2), IDS, LOGITS, torch.randn(5, 1)), True),
        ((LOGITS, IDS), False),  # no weights
        ((torch.randn(5, 2), torch.randn(5, 2), IDS), False),  # narrower than the experts
        ((torch.randn(1, 5, 8), None), False),
        (LOGITS, False),
    ],
)
def test_logits_stand_beside_ids_and_weights(output: object, is_found: bool) -> None:
    logits = logits_in(output, 8)
    assert torch.equal(logits, LOGITS) if is_found and logits is not None else logits is None


def test_lone_logits() -> None:
    assert lone_logits(LOGITS, 8) is LOGITS
    assert lone_logits(LOGITS, 9) is None
    assert lone_logits(IDS, 2) is None
    assert lone_logits(LOGITS[None], 8) is None
