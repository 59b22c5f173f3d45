"""Comparisons of real runs: other dtypes, shuffled experts, wrong routers; and the command with its exit status."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from model.checkpoint.weights import save_model
from model.cli.main import main
from model.network.decision import Routing
from model.network.moe import MixtureOfExperts, Router
from model.network.transformer import Transformer
from model.run.engine import Engine
from model.run.request import RunRequest
from model.trace import consistency
from model.trace.comparison import CHANGE, FOLLOWS, NEAR_TIE, Comparison, compare
from model.trace.comparison_measures import MEASURES, measures
from model.trace.comparison_report import verdict
from model.trace.file import save
from model.trace.trace import Trace
from model.train.data.bpe import train_vocabulary
from tests.models import random_model, tiny_config
from tests.traces import random_trace

LAYERS = (1, 2, 3, 4)
TEXT = "The wolf saw the moon.\n" * 20


def ids(number: int = 96) -> tuple[int, ...]:
    return tuple(torch.randint(0, 320, (number,), generator=torch.Generator().manual_seed(3)).tolist())


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trace]:
    """Save a model, run it with the command line, and return the trace."""

    def run(model: Transformer | None = None, dtype: str = "float32", number: int = 96) -> Trace:
        folder = tmp_path_factory.mktemp("models") / "tiny"
        save_model(model or random_model(tiny_config()), folder, torch.float32)
        return Engine.load(folder, device="cpu", dtype=dtype).run(RunRequest(token_ids=ids(number)))

    return run


@pytest.fixture(scope="module")
def right(traced: Callable[..., Trace]) -> Trace:
    return traced()


# --- another dtype ---------------------------------------------------------------------------------------------------


def test_a_run_with_itself_is_identical(right: Trace, traced: Callable[..., Trace]) -> None:
    found = compare(right, traced())
    assert set(measures(found).values()) == {0.0}


def test_another_dtype_is_near_ties_and_what_follows(right: Trace, traced: Callable[..., Trace]) -> None:
    """Random weights drift further than trained ones, so near ties leave a few differences unexplained."""
    found = compare(right, traced(dtype="bfloat16"))
    assert found.dtype == "bfloat16"
    assert 0 < found.is_split.sum() < 0.2 * found.num_compared
    assert found.count(NEAR_TIE) > 0
    assert found.count(CHANGE) <= 0.05 * found.is_split.sum() + 1
    assert found.faults_a == found.faults_b == ()
    assert found.renumbered == {}


# --- a shuffled order of experts -------------------------------------------------------------------------------------


def shuffled(order_of: Callable[[torch.Generator], torch.Tensor]) -> tuple[Transformer, dict[int, list[int]]]:
    """The same model with each layer's experts in another order; returns where each expert went, by layer."""
    model, orders, generator = random_model(tiny_config()), {}, torch.Generator().manual_seed(5)
    for block in model.modules():
        if isinstance(block, MixtureOfExperts):
            order = order_of(generator)
            for tensor in (block.router.weight, block.router.expert_bias, block.experts.gate_up, block.experts.down):
                tensor.data = tensor.data[order].clone()
            orders[block.layer] = order.argsort().tolist()
    return model, orders


def within_groups(generator: torch.Generator) -> torch.Tensor:
    places = torch.stack([torch.randperm(4, generator=generator) for _ in range(4)])
    return (4 * torch.randperm(4, generator=generator)[:, None] + places).flatten()


def test_shuffled_experts_are_found_and_explain_everything(right: Trace, traced: Callable[..., Trace]) -> None:
    model, orders = shuffled(within_groups)
    found = compare(right, traced(model))
    assert {layer: one.order.tolist() for layer, one in found.renumbered.items()} == orders
    assert found.is_split.sum() == 0
    assert measures(found)["weight-difference"] < 1e-5
    assert "Expert order differs in L1 to L4" in " ".join(verdict(found))


def test_shuffling_across_groups_is_found_where_it_began(right: Trace, traced: Callable[..., Trace]) -> None:
    """Experts in another group also change the kept groups: a permutation explains the scores, but not all choices."""
    model, orders = shuffled(lambda generator: torch.randperm(16, generator=generator))
    found = compare(right, traced(model))
    assert found.renumbered[1].order.tolist() == orders[1]
    assert found.count(CHANGE) > 0


# --- wrong routers ---------------------------------------------------------------------------------------------------


def weights_from_biased_scores(router: Router, right: Routing) -> Routing:
    biased = (right.scores_TE + router.expert_bias).gather(-1, right.expert_ids_TK)
    return right._replace(weights_TK=2.5 * biased / biased.sum(-1, keepdim=True))


def no_normalisation(router: Router, right: Routing) -> Routing:
    return right._replace(weights_TK=2.5 * right.scores_TE.gather(-1, right.expert_ids_TK))


def groups_masked_with_zero(router: Router, right: Routing) -> Routing:
    kept = right.kept_groups_TG.repeat_interleave(router.config.group_size, -1)
    chosen = (right.scores_TE + router.expert_bias).masked_fill(~kept, 0.0).topk(router.config.top_k, -1).indices
    weights = right.scores_TE.gather(-1, chosen)
    return right._replace(expert_ids_TK=chosen, weights_TK=2.5 * weights / weights.sum(-1, keepdim=True))


def regrouped(router: Router, right: Routing, per_group: int, num_kept: int) -> Routing:
    """Groups scored by the sum of so many best experts, and so many of them kept; the router records what it does."""
    biased = right.scores_TE + router.expert_bias
    groups = biased.view(len(biased), router.config.num_groups, -1).topk(per_group, -1).values.sum(-1)
    kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, groups.topk(num_kept, -1).indices, True)
    masked = biased.masked_fill(~kept.repeat_interleave(router.config.group_size, -1), -torch.inf)
    chosen = masked.topk(router.config.top_k, -1).indices
    weights = right.scores_TE.gather(-1, chosen)
    return Routing(right.scores_TE, groups, kept, chosen, 2.5 * weights / weights.sum(-1, keepdim=True))


def groups_by_their_best(router: Router, right: Routing) -> Routing:
    return regrouped(router, right, 1, 2)


def no_group_limit(router: Router, right: Routing) -> Routing:
    return regrouped(router, right, 2, 4)


def one_group_more(router: Router, right: Routing) -> Routing:
    return regrouped(router, right, 2, 3)


def negative_bias() -> Transformer:
    model = random_model(tiny_config())
    for router in model.routers():
        router.expert_bias -= 0.7
    return model


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch, traced: Callable[..., Trace]) -> Callable[..., Comparison]:
    """Return the comparison of a correct run with a run whose router is deliberately wrong."""
    original = Router.forward

    def compared(rule: Callable[[Router, Routing], Routing], model: Callable[[], Transformer]) -> Comparison:
        a = traced(model())

        def forward(self: Router, *arguments: Any, **named: Any) -> Routing:
            return rule(self, original(self, *arguments, **named))

        monkeypatch.setattr(Router, "forward", forward)
        return compare(a, traced(model()))

    return compared


@pytest.mark.parametrize(
    ("rule", "model", "kind"),
    [
        (weights_from_biased_scores, lambda: random_model(tiny_config()), consistency.BIASED_WEIGHTS),
        (no_normalisation, lambda: random_model(tiny_config()), consistency.NOT_NORMALISED),
        (groups_masked_with_zero, negative_bias, consistency.ZERO_MASK),
        (groups_by_their_best, lambda: random_model(tiny_config()), consistency.GROUP_RULE),
        (no_group_limit, lambda: random_model(tiny_config()), consistency.GROUP_NUMBER),
        (one_group_more, lambda: random_model(tiny_config()), consistency.GROUP_NUMBER),
    ],
    ids=["biased weights", "not normalised", "masked with zero", "best expert", "no group limit", "one group more"],
)
def test_wrong_router_is_found_and_told_apart_from_near_ties(
    wrong: Callable[..., Comparison],
    rule: Callable[[Router, Routing], Routing],
    model: Callable[[], Transformer],
    kind: str,
) -> None:
    found = wrong(rule, model)
    assert found.faults_a == ()
    assert [(fault.kind, fault.layers) for fault in found.faults_b] == [(kind, LAYERS)]
    assert found.count(CHANGE) > 0
    assert found.count(NEAR_TIE) < 0.1 * (found.count(CHANGE) + found.count(FOLLOWS))
    said = [line for line in verdict(found) if line.startswith("B contradicts itself in L1 to L4")]
    assert len(said) == 1
    assert kind in said[0]
    assert "This is no near tie." in said[0]


def test_wrong_weights_leave_the_first_choice_alone(wrong: Callable[..., Comparison]) -> None:
    found = wrong(weights_from_biased_scores, lambda: random_model(tiny_config()))
    assert not found.is_split[:, 0].any()
    assert found.layers["weight_difference"].values[0] > 0.01


def test_rounding_is_no_wrong_router(right: Trace, traced: Callable[..., Trace]) -> None:
    for dtype in ("bfloat16", "float16"):
        assert compare(right, traced(dtype=dtype)).faults_b == ()


def test_softmax_router_without_normalisation_is_right(traced: Callable[..., Trace]) -> None:
    v2 = {"model_type": "deepseek_v2", "scoring": "softmax", "selection": "group_limited_greedy"}
    model = random_model(tiny_config(**v2, normalise_weights=False))
    for router in model.routers():
        router.expert_bias.zero_()
    found = traced(model, number=24)
    assert found.model["config"]["norm_topk_prob"] is False
    assert consistency.faults(found) == []


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(traced: Callable[..., Trace], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two traces, and a model with a vocabulary."""
    folder = tmp_path_factory.mktemp("compare")
    made = {"model": folder / "tiny"}
    save_model(random_model(tiny_config()), made["model"], torch.float32)
    train_vocabulary([TEXT], 320, show_progress=False).save(str(made["model"] / "tokenizer.json"))
    for dtype in ("float32", "bfloat16"):
        made[dtype] = folder / f"{dtype}.safetensors"
        save(traced(dtype=dtype), made[dtype])
    return made


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def test_two_files_in_words(files: dict[str, Path]) -> None:
    result = run(files["float32"], files["bfloat16"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "A  tiny, measured by moe-loupe, float32, 96 tokens"
    assert lines[2] == "differing: dtype"
    assert "by a near tie, which bfloat16 rounding can reverse" in lines[4]
    start = next(place for place, line in enumerate(lines) if line.startswith("layer"))
    assert [line.split()[0] for line in lines[start + 1 : start + 6]] == ["1", "2", "3", "4", "fair"]


def test_what_an_import_assumed_is_noted(files: dict[str, Path], right: Trace, tmp_path: Path) -> None:
    note = "row 0 is token 0: assumed, because the file does not state the tokens of the run"
    imported = dataclasses.replace(right, origin=dict(right.origin) | {"kind": "imported", "notes": [note]})
    save(imported, tmp_path / "imported.safetensors")
    both = files["float32"], tmp_path / "imported.safetensors"
    result = run(*both)
    assert result.exit_code == 0, result.output
    assert f"note on B: {note}" in result.output.splitlines()
    assert "note on A" not in result.output
    assert json.loads(run(*both, "--json").stdout)["b"]["notes"] == [note]


def test_json_says_the_same_as_the_comparison(files: dict[str, Path], right: Trace) -> None:
    result = run(files["float32"], files["bfloat16"], "--json")
    plain = json.loads(result.stdout)
    assert plain["measures"].keys() == MEASURES.keys()
    assert (plain["a"]["dtype"], plain["b"]["dtype"], plain["differs"]) == ("float32", "bfloat16", ["dtype"])
    assert plain["measures"]["split-share"] == sum(plain["choices"][k] for k in ("near tie", "follows", "change")) / 384
    assert [row["layer"] for row in plain["layers"]] == list(LAYERS)
    assert len(plain["tokens"]) == len({row["token"] for row in plain["tokens"]})


@pytest.mark.parametrize(("limits", "status"), [
    (["changed-share=1"], 0), (["split-share=0"], 1), (["split-share=1", "logprob-difference=1e-9"], 1),
    (["faults=0", "renumbered-layers=0", "unaligned-share=0"], 0),
])  # fmt: skip
def test_thresholds_decide_the_exit_status(files: dict[str, Path], limits: list[str], status: int) -> None:
    options = [part for limit in limits for part in ("--fail-above", limit)]
    result = run(files["float32"], files["bfloat16"], *options)
    assert result.exit_code == status, result.output
    assert bool(result.stderr) == bool(status)
    assert result.stdout.startswith("A  tiny")
    if status:
        name, limit = limits[-1].split("=")
        assert result.stderr.startswith(f"{name} is ")
        assert result.stderr.strip().endswith(f"above {float(limit):g}")


def test_json_on_stdout_stays_json_when_a_threshold_is_exceeded(files: dict[str, Path]) -> None:
    result = run(files["float32"], files["bfloat16"], "--json", "--fail-above", "split-share=0")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["format"] == "moe-loupe-comparison"


def test_two_models_run_the_prompt(files: dict[str, Path]) -> None:
    options = ["--prompt", "The wolf saw", "--dtype-b", "bfloat16"]
    result = run(files["model"], files["model"], *options, "--json")
    assert result.exit_code == 0, result.output
    plain = json.loads(result.stdout)
    assert (plain["a"]["dtype"], plain["b"]["dtype"]) == ("float32", "bfloat16")
    assert plain["a"]["tokens"] == plain["b"]["tokens"] == plain["alignment"]["pairs"]


def test_prompt_file_and_ids(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_bytes(b"The wolf")
    for options in (["--prompt-file", tmp_path / "prompt.txt"], ["--ids", "5,6,7"]):
        assert run(files["model"], files["model"], *options, "--fail-above", "split-share=0").exit_code == 0


def test_model_beside_a_trace_runs_the_ids_of_the_trace(files: dict[str, Path]) -> None:
    result = run(files["float32"], files["model"], "--fail-above", "split-share=0", "--json")
    assert result.exit_code == 0, result.output
    plain = json.loads(result.stdout)
    assert plain["alignment"] == {"how": "position", "pairs": 96, "only_a": [], "only_b": [], "unknown_ids": 0}
    assert run(files["model"], files["float32"], "--fail-above", "split-share=0").exit_code == 0


def test_model_beside_a_table_runs_the_ids_of_every_document(
    files: dict[str, Path], right: Trace, tmp_path: Path
) -> None:
    line = {"token_ids": list(ids()), "layers": list(LAYERS), "routed_experts": right.data["expert_id"].values.tolist()}
    table = tmp_path / "table.jsonl"
    table.write_text("\n".join(json.dumps(line | {"id": name}) for name in ("a", "b")))
    result = run(table, files["model"], "--fail-above", "split-share=0", "--json")
    assert result.exit_code == 0, result.output
    plain = json.loads(result.stdout)["rollout"]
    assert (plain["documents"], plain["figures"][0]["n"]) == (2, 2 * 96 * len(LAYERS))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["float32", "absent"], "absent is neither a trace file nor a folder nor an embedded model"),
        (["model", "model"], "Two models need one of --prompt"),
        (["float32", "bfloat16", "--prompt", "a"], "Two trace files need no prompt"),
        (["model", "model", "--prompt", "a", "--ids", "1"], "Give at most one of"),
        (["model", "model", "--prompt-file", "absent.txt"], "absent.txt: No such file"),
        (["model", "model", "--ids", "1,x"], "not a list of whole numbers"),
        (["model", "model", "--prompt", ""], "prompt is empty"),
        (["model", "model", "--prompt", "a", "--dtype-b", "int8"], "dtype 'int8' is not known"),
        (["float32", "notes"], "this is not a MoE Loupe trace file"),
        (["float32", "float32", "--fail-above", "speed=1"], "'speed' is not a measure; choose from changed-share"),
        (["float32", "float32", "--fail-above", "faults"], "not a measure with a limit of at least 0"),
        (["float32", "float32", "--fail-above", "faults=-1"], "not a measure with a limit of at least 0"),
        (["float32", "float32", "--fail-above", "faults=nan"], "not a measure with a limit of at least 0"),
        (["float32", "routerless"], "does not hold the chosen experts"),
        (["lone", "lone", "--fail-above", "logprob-difference=1"], "logprob-difference cannot be checked"),
        (["unknown", "model"], "lacks some token ids"),
    ],
)
def test_unusable_input_ends_with_status_2_and_one_line(
    files: dict[str, Path], traced: Callable[..., Trace], tmp_path: Path, options: list[str], complaint: str
) -> None:
    made = {"notes": tmp_path / "notes.txt", "absent": tmp_path / "absent", **files}
    made["notes"].write_text("no trace")
    for name in {"routerless", "lone", "unknown"} & set(options):
        made[name] = tmp_path / name
        save(_unusual(traced(number=1), name), made[name])
    result = run(*(made.get(option, option) for option in options))
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("Error: ")
    assert complaint in lines[-1]
    assert len(lines) == (1 if not lines[0].startswith("Usage:") else 4)
    assert result.stdout == ""


def _unusual(trace: Trace, name: str) -> Trace:
    if name == "routerless":
        return dataclasses.replace(trace, data=trace.data.drop_vars(["expert_id"]))
    if name == "unknown":
        tokens = tuple(dataclasses.replace(token, id=-1) for token in trace.tokens)
        origin = {**trace.origin, "kind": "imported"}
        data = trace.data.assign(token_id=trace.data["token_id"] * 0 - 1)
        return dataclasses.replace(trace, data=data, tokens=tokens, origin=origin)
    return trace


def test_names_in_a_file_cannot_write_to_the_terminal(right: Trace, tmp_path: Path) -> None:
    hostile = dataclasses.replace(right, model={**right.model, "name": "\x1b[2Jevil\nline"})
    save(hostile, tmp_path / "hostile")
    result = run(tmp_path / "hostile", tmp_path / "hostile")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert result.stdout.startswith("A  \\x1b[2Jevil\\x0aline, measured")


def test_two_files_are_compared_without_torch(files: dict[str, Path]) -> None:
    script = (
        "import sys, model.__main__ as m; m.main(['compare', *sys.argv[1:]], standalone_mode=False); "
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(files["float32"]), str(files["float32"])]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1], "2.5", {}, None])
def test_values_of_a_configuration_that_are_no_numbers_are_shown_and_do_no_harm(tmp_path: Path, value: object) -> None:
    trace = random_trace()
    config = {**trace.config, "routed_scaling_factor": value, "norm_topk_prob": value, "rope_theta": value}
    other = dataclasses.replace(trace, model={**trace.model, "config": config})
    for name, one in (("a", trace), ("b", other)):
        save(one, tmp_path / name)
    for options in ([], ["--json"]):
        result = CliRunner().invoke(main, ["compare", str(tmp_path / "a"), str(tmp_path / "b"), *options])
        assert result.exit_code == 0, result.output
        assert result.stderr == ""
    json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
