"""The plan as JSON: what it holds, what it warns of, and the mask for EASY-EP."""

import json
from pathlib import Path

import numpy as np
import pytest

from model.atlas.errors import AtlasError
from model.atlas.folder import open_sweep
from model.atlas.plan_file import Plan, agreement, make_plan, write, write_easy_ep
from tests.model.atlas.test_plan import cells, counts
from tests.sweeps import write_sweep

CONFIG = {"n_routed_experts": 4, "num_experts_per_tok": 1, "n_group": 2, "topk_group": 1, "model_type": "deepseek_v3",
          "topk_method": "noaux_tc", "scoring_func": "sigmoid"}  # fmt: skip


def of_norms(folder: Path) -> Plan:
    return make_plan(open_sweep(write_sweep(folder, counts(), 2, counts=cells())), 2 / 3, "reap", 4)


def test_a_plan_holds_every_rule_and_names_the_one_used(tmp_path: Path) -> None:
    plan = of_norms(tmp_path / "sweep")
    write(plan, tmp_path / "plan.json", {"texts": "x"})
    entries = json.loads((tmp_path / "plan.json").read_text())
    (layer,) = entries["layers"]
    assert (entries["rule"], layer["cut"], layer["kept"]) == ("reap", [2], [0, 1])
    assert layer["saliency"]["reap"] == pytest.approx([1.166667, 1.266667, 0.75], abs=1e-6)
    assert layer["saliency"].keys() == entries["rules"].keys() == {
        "frequency", "weighted", "ean", "ean-sum", "weighted-ean", "reap"
    }  # fmt: skip
    assert entries["missing_rules"].keys() == {"easy-ep"}
    assert entries["keep"] == pytest.approx({"asked": 2 / 3, "share": 2 / 3, "cut_per_layer": 1})
    assert entries["check"] == {"texts": "x"}
    assert agreement(plan) == {"frequency": 1, "weighted": 1, "ean": 0, "ean-sum": 0, "weighted-ean": 1, "reap": 1}


def test_few_tokens_are_listed(tmp_path: Path) -> None:
    coverage = of_norms(tmp_path).entries["coverage"]
    assert coverage["share_under"] == 1
    assert coverage["under"][2] == {"layer": 1, "expert": 2, "tokens": 2, "documents": 2}
    assert coverage["fewest"] == {"tokens": 2, "documents": 2}


def test_bits_need_norms(tmp_path: Path) -> None:
    assert of_norms(tmp_path / "a").entries["layers"][0]["bits"] == 4
    plan = make_plan(open_sweep(write_sweep(tmp_path / "b", counts(), 2)), 2 / 3, "frequency", 4)
    assert "bits" not in plan.entries["layers"][0]
    assert "states no groups" in plan.entries["notes"][-1]


def test_groups_lose_equally_many(tmp_path: Path) -> None:
    model = {"name": "x", "config": CONFIG, "layers": [1], "num_experts": 4, "top_k": 1}
    sweep = open_sweep(write_sweep(tmp_path, np.array([[[1, 2, 3, 4]]]), manifest={"model": model}))
    with pytest.raises(AtlasError, match="at most 0 can be cut"):
        make_plan(sweep, 0.5, "frequency", 4)


def test_the_mask_of_easy_ep(tmp_path: Path) -> None:
    write_easy_ep(of_norms(tmp_path), tmp_path / "mask.json")
    assert json.loads((tmp_path / "mask.json").read_text()) == [[1.0, 1.0, 0.0]]
