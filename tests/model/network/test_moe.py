"""The router against numbers worked out by hand, and its invariants under random scores and edits."""

import dataclasses

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from model.network.config import ConfigError
from model.network.decision import Routing
from model.network.edit import EditError, GivenRouting, LayerEdit, check_edit, unchanged
from model.network.moe import Experts, Router, summed_in_order
from tests.closeness import ROUNDING, relative_error
from tests.models import tiny_config

SCORES = [0.9, 0.1, 0.6, 0.5, 0.8, 0.05, 0.3, 0.2]


def router_with(scores: list[float], bias: list[float], **changes: object) -> tuple[Router, torch.Tensor]:
    """A router of 8 experts whose affinity for the returned input is exactly `scores`."""
    sizes = dict(num_experts=8, num_groups=4, num_kept_groups=2, top_k=3, routed_scale=2.5, hidden_size=8)
    router = Router(tiny_config(**(sizes | changes)))
    router.weight.data = torch.diag(torch.tensor(scores, dtype=torch.float64).logit()).float()
    router.expert_bias.copy_(torch.tensor(bias))
    return router, torch.ones(1, 8)


def weight_of(routing: Routing) -> dict[int, float]:
    return dict(zip(routing.expert_ids_TK[0].tolist(), routing.weights_TK[0].tolist(), strict=True))


def test_group_limited_selection_with_bias() -> None:
    router, x = router_with(SCORES, [0, 0, 0, 0, -0.3, 0, 0.4, 0.25])
    routing = router(x)
    assert routing.group_scores_TG[0].tolist() == pytest.approx([1.0, 1.1, 0.55, 1.15], abs=1e-6)
    assert routing.kept_groups_TG[0].tolist() == [False, True, False, True]
    assert weight_of(routing) == pytest.approx({2: 1.0714286, 3: 0.8928571, 6: 0.5357143}, abs=1e-6)


def test_negative_biased_scores_do_not_let_masked_experts_in() -> None:
    router, x = router_with(SCORES, [-0.5, -0.5, -1, -1, -1, -1, -1, -1])
    assert weight_of(router(x)) == pytest.approx({0: 1.40625, 1: 0.15625, 2: 0.9375}, abs=1e-6)


def test_group_of_one_expert_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2 experts"):
        tiny_config(num_experts=8, num_groups=8)


def test_bias_off_and_group_limit_off_change_the_selection_only() -> None:
    router, x = router_with(SCORES, [0, 0, 0, 0, -0.3, 0, 0.4, 0.25])
    edit = unchanged(router.config, x.device)
    free = router(x, dataclasses.replace(edit, use_bias=False, limit_groups=False))
    assert set(weight_of(free)) == {0, 2, 4}
    assert free.kept_groups_TG.all()
    assert weight_of(free)[0] == pytest.approx(2.5 * 0.9 / 2.3, abs=1e-6)


def test_forced_expert_takes_the_last_place_with_its_own_score() -> None:
    router, x = router_with(SCORES, [0, 0, 0, 0, -0.3, 0, 0.4, 0.25])
    edit = unchanged(router.config, x.device)
    edit.forced_E[5] = True  # of group 2, which stays dropped
    routing = router(x, edit)
    assert routing.kept_groups_TG[0].tolist() == [False, True, False, True]
    assert set(weight_of(routing)) == {5, 6, 2}  # without the change 6, 2, 3, biased 0.7, 0.6, 0.5
    assert weight_of(routing)[5] == pytest.approx(2.5 * 0.05 / (0.05 + 0.3 + 0.6), abs=1e-6)


def test_forcing_an_expert_replaces_one_expert_of_every_token() -> None:
    torch.manual_seed(1)
    router, _ = router_with(SCORES, [0.1, -0.2, 0.3, 0, 0, 0.1, -0.1, 0.2])
    x, edit = torch.randn(500, 8), unchanged(router.config, torch.device("cpu"))
    edit.forced_E[5] = True
    before, after = (
        torch.zeros(500, 8).scatter_(1, routing.expert_ids_TK, 1.0) for routing in (router(x), router(x, edit))
    )
    assert ((before - after).clamp(min=0).sum(-1) == 1 - before[:, 5]).all()


def test_group_with_one_survivor_scores_it_and_the_tokens_lowest_score() -> None:
    router, x = router_with(SCORES, [0.0] * 8, top_k=1)
    edit = dataclasses.replace(unchanged(router.config, x.device), top_k=1)
    edit.knocked_out_E[1] = True
    routing = router(x, edit)
    assert routing.group_scores_TG[0, 0].item() == pytest.approx(0.9 + 0.05, abs=1e-6)
    assert weight_of(routing) == pytest.approx({0: 2.5})


@pytest.mark.parametrize("knocked_out", [{1}, {1, 3}, {0, 1}, {1, 3, 6}])
@pytest.mark.parametrize("constant", [-3.0, 0.5, 20.0])
def test_a_constant_added_to_all_biases_changes_no_selection(knocked_out: set[int], constant: float) -> None:
    torch.manual_seed(2)
    router, _ = router_with(SCORES, [0.1, -0.2, 0.3, 0, 0, 0.1, -0.1, 0.2], top_k=2)
    x, edit = torch.randn(300, 8), unchanged(router.config, torch.device("cpu"))
    edit.knocked_out_E[list(knocked_out)] = True
    before = router(x, edit)
    router.expert_bias += constant
    after = router(x, edit)
    assert torch.equal(before.expert_ids_TK.sort(-1).values, after.expert_ids_TK.sort(-1).values)
    assert torch.equal(before.kept_groups_TG, after.kept_groups_TG)


def test_edit_that_leaves_too_few_experts_is_refused() -> None:
    config = tiny_config(num_experts=8, num_groups=4, num_kept_groups=2, top_k=3)
    edit = unchanged(config, torch.device("cpu"))
    edit.knocked_out_E[:2] = True  # groups 0 and 1 could be kept: 0 + 2 survivors
    with pytest.raises(EditError, match="layer 3: 2 experts may be all"):
        check_edit(config, 3, edit)


scores_8 = st.lists(st.floats(0.01, 0.99), min_size=8, max_size=8)
biases_8 = st.lists(st.floats(-2, 2), min_size=8, max_size=8)


@given(scores=scores_8, bias=biases_8, knocked_out=st.sets(st.integers(0, 7), max_size=3))
def test_invariants_of_any_decision(scores: list[float], bias: list[float], knocked_out: set[int]) -> None:
    router, x = router_with(scores, bias, top_k=2)
    edit = unchanged(router.config, x.device)
    edit.knocked_out_E[list(knocked_out)] = True
    try:
        check_edit(router.config, 0, edit)
    except EditError:
        return
    routing = router(x, edit)
    chosen = weight_of(routing)
    assert len(chosen) == 2
    assert not set(chosen) & knocked_out
    assert sum(chosen.values()) == pytest.approx(2.5, rel=1e-5)
    assert routing.kept_groups_TG.sum() == 2
    assert all(routing.kept_groups_TG[0, expert // 2] for expert in chosen)


@given(scores=scores_8, bias=biases_8, forced=st.integers(0, 7))
def test_forced_expert_is_always_selected(scores: list[float], bias: list[float], forced: int) -> None:
    router, x = router_with(scores, bias)
    edit = unchanged(router.config, x.device)
    edit.forced_E[forced] = True
    assert forced in weight_of(router(x, edit))


def test_empty_edit_is_bit_identical() -> None:
    torch.manual_seed(0)
    router, _ = router_with(SCORES, [0.1, -0.2, 0.3, 0, 0, 0.1, -0.1, 0.2])
    x = torch.randn(64, 8)
    plain, edited = router(x), router(x, unchanged(router.config, x.device))
    assert all(torch.equal(a, b) for a, b in zip(plain, edited, strict=True))


@pytest.mark.parametrize("num_tokens", [1, 2, 17, 300])
def test_experts_equal_a_loop_over_tokens(num_tokens: int) -> None:
    torch.manual_seed(num_tokens)
    experts = Experts(tiny_config())
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    num_experts, hidden = len(experts.gate_up), experts.gate_up.shape[-1]
    x = torch.randn(num_tokens, hidden)
    ids = torch.stack([torch.randperm(num_experts)[:3] for _ in range(num_tokens)])
    weights = torch.rand(num_tokens, 3)
    expected = torch.zeros_like(x)
    for t in range(num_tokens):
        for k in range(3):
            gate, up = (experts.gate_up[ids[t, k]] @ x[t]).chunk(2)
            expected[t] += weights[t, k] * (experts.down[ids[t, k]] @ (torch.nn.functional.silu(gate) * up))
    assert relative_error(experts.eval()(x, ids, weights), expected) <= ROUNDING
    assert relative_error(experts.train()(x, ids, weights), expected) <= ROUNDING


def test_layer_edit_is_frozen() -> None:
    edit = unchanged(tiny_config(), torch.device("cpu"))
    assert isinstance(edit, LayerEdit)
    with pytest.raises(dataclasses.FrozenInstanceError):
        edit.top_k = 1  # type: ignore[misc]


def test_temperature_divides_the_logits() -> None:
    router, x = router_with([0.9, 0.1, 0.6, 0.5, 0.8, 0.05, 0.3, 0.2], [0.0] * 8, num_groups=1, num_kept_groups=1)
    routing = router(x, dataclasses.replace(unchanged(router.config, x.device), temperature=2.0))
    # logit(0.9) = ln 9, halved ln 3, whose sigmoid is 3/4; 0.8 gives 2/3; 0.6 gives sqrt(1.5) / (1 + sqrt(1.5)).
    assert routing.scores_TE[0, [0, 4, 2]].tolist() == pytest.approx([0.75, 2 / 3, 0.5505103], abs=1e-6)
    assert weight_of(routing)[0] == pytest.approx(2.5 * 0.75 / (0.75 + 2 / 3 + 0.5505103), abs=1e-6)


def test_temperature_of_a_softmax_gate() -> None:
    config = tiny_config(
        num_experts=2, num_groups=1, num_kept_groups=1, top_k=1, hidden_size=2, routed_scale=1.0,
        model_type="deepseek_v2", scoring="softmax", selection="greedy", normalise_weights=False,
    )  # fmt: skip
    router = Router(config)
    router.weight.data = torch.diag(torch.tensor([9.0, 1.0]).log())  # shares 9/10 and 1/10; of the roots 3/4 and 1/4
    edit = dataclasses.replace(unchanged(config, torch.device("cpu")), temperature=2.0)
    assert router(torch.ones(1, 2), edit).scores_TE[0].tolist() == pytest.approx([0.75, 0.25], abs=1e-6)


def test_threshold_takes_the_weight_and_leaves_the_place() -> None:
    router, x = router_with(SCORES, [0, 0, 0, 0, -0.3, 0, 0.4, 0.25])  # chooses 2, 3 and 6: 0.6, 0.5 and 0.3
    edit = unchanged(router.config, x.device)
    routing = router(x, dataclasses.replace(edit, threshold=0.4))
    assert weight_of(routing) == pytest.approx({2: 2.5 * 0.6 / 1.1, 3: 2.5 * 0.5 / 1.1, 6: 0.0}, abs=1e-6)
    assert weight_of(router(x, dataclasses.replace(edit, threshold=0.95))) == {2: 0.0, 3: 0.0, 6: 0.0}


def test_given_rows_are_taken_as_they_are_and_the_rest_is_routed() -> None:
    router, x_1D = router_with(SCORES, [0.0] * 8)
    x_3D = x_1D.expand(3, -1)
    given = GivenRouting(torch.tensor([[7, 1, 5], [0, 2, 4]]), torch.tensor([[0.1, 9.0, 0.0], [1.0, 2.0, 3.0]]))
    edit = dataclasses.replace(unchanged(router.config, x_3D.device), given=given)
    own, routing = router(x_3D), router(x_3D, edit)
    assert torch.equal(routing.expert_ids_TK[:2], given.expert_ids_RK)
    assert torch.equal(routing.weights_TK[:2], given.weights_RK)
    assert torch.equal(routing.expert_ids_TK[2], own.expert_ids_TK[2])
    assert torch.equal(routing.weights_TK[2], own.weights_TK[2])
    later = router(x_3D, edit.after(1))
    assert torch.equal(later.expert_ids_TK[0], given.expert_ids_RK[1])
    assert torch.equal(later.expert_ids_TK[1:], own.expert_ids_TK[1:])
    assert torch.equal(router(x_1D, edit).weights_TK, given.weights_RK[:1])


@pytest.mark.parametrize(
    ("ids", "changes", "message"),
    [
        ([[1, 2, 3]], {"use_bias": False}, "nothing else can be changed there"),
        ([[1, 2, 3]], {"temperature": 2.0}, "nothing else can be changed there"),
        ([[1, 2, 3]], {"threshold": 0.1}, "nothing else can be changed there"),
        ([[1, 2]], {}, "the replayed routing has 2 experts per token, this run 3"),
        ([[1, 2, 1]], {}, "the same expert twice"),
    ],
)
def test_given_routing_that_cannot_be_followed_is_refused(ids: list, changes: dict, message: str) -> None:
    config = tiny_config(num_experts=8, num_groups=4, num_kept_groups=2, top_k=3)
    given = GivenRouting(torch.tensor(ids), torch.ones(1, len(ids[0])))
    edit = dataclasses.replace(unchanged(config, torch.device("cpu")), given=given, **changes)
    with pytest.raises(EditError, match=f"layer 2: .*{message}"):
        check_edit(config, 2, edit)


def test_one_token_does_not_depend_on_the_order_of_ranks() -> None:
    torch.manual_seed(1)
    experts = Experts(tiny_config()).eval()
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter)
    x, ids, weights = torch.randn(1, 48), torch.tensor([[9, 3, 12, 0]]), torch.rand(1, 4)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(experts(x, ids, weights), experts(x, ids[:, order], weights[:, order]))


def test_one_token_on_a_gpu_equals_that_on_a_cpu_and_sends_nothing_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    experts = Experts(tiny_config()).eval()
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter)
    x, ids, weights = torch.randn(1, 48), torch.tensor([[0, 3, 9, 12]]), torch.rand(1, 4)
    expected = experts(x, ids, weights)
    for name in ("tolist", "item", "cpu", "__int__", "__bool__"):
        monkeypatch.setattr(torch.Tensor, name, None)
    on_gpu = experts._one_token_on_gpu(x, ids[0], weights[0])
    monkeypatch.undo()
    assert relative_error(on_gpu, expected) <= ROUNDING


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sum_in_order_is_that_of_the_cpu_to_the_bit(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(2)
    ids_TK = torch.rand(50, 16, generator=generator).argsort(-1)[:, :4]
    order_N = ids_TK.flatten().argsort(stable=True)
    y_ND = torch.randn(200, 8, generator=generator).to(dtype)
    expected_TD = torch.zeros(50, 8, dtype=dtype).index_add(0, order_N // 4, y_ND)
    assert torch.equal(summed_in_order(y_ND, order_N, 4), expected_TD)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_sum_each_time() -> None:
    torch.manual_seed(1)
    experts = Experts(tiny_config()).eval().to("cuda")
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter)
    x, ids = torch.randn(500, 48, device="cuda"), torch.rand(500, 16, device="cuda").argsort(-1)[:, :4]
    first = experts(x, ids, torch.ones(500, 4, device="cuda"))
    assert all(torch.equal(experts(x, ids, torch.ones(500, 4, device="cuda")), first) for _ in range(20))
