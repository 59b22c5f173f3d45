"""The audit with text finds on a pretended GPU (tests/pretended_device.py) what it finds on the CPU."""

from pathlib import Path

import pytest

from model.doctor.findings import ERROR, Report
from model.doctor.prompts import Prompt
from model.doctor.text import examine_text
from model.run.engine import Engine
from model.run.request import RunRequest
from tests.model.doctor.checkpoints import Tensors, expert, plant, written
from tests.models import random_model, tiny_config
from tests.pretended_device import pretend

pretend()
IDS = tuple(2 + 37 * position % 311 for position in range(40))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(random_model(tiny_config(num_layers=3)), tmp_path_factory.mktemp("model"))


def swap(tensors: Tensors) -> None:
    for projection in ("gate_proj", "up_proj", "down_proj"):
        one, other = expert(1, 3, projection), expert(1, 12, projection)
        tensors[one], tensors[other] = tensors[other], tensors[one]


@pytest.mark.parametrize("from_disk", [False, True])
def test_findings_and_reference_are_those_of_the_cpu(folder: Path, from_disk: bool, tmp_path: Path) -> None:
    healthy = Engine.load(folder, device="cpu").run(RunRequest(token_ids=IDS))
    changed = plant(written(random_model(tiny_config(num_layers=3)), tmp_path / "model"), swap)
    read = Engine.from_disk if from_disk else Engine.load
    on_gpu, on_cpu = (
        examine_text(read(changed, device=device), [Prompt(ids=IDS)], healthy) for device in ("pretended", "cpu")
    )
    assert [check.name for check in on_gpu.made] == [check.name for check in on_cpu.made]
    assert summary(on_gpu) == summary(on_cpu)
    assert from_disk or any("swapped" in what for *_, what in summary(on_cpu))


def summary(report: Report) -> list[tuple[str, str, str, str]]:
    """Return the findings; of notes without their figures, because two kernels round bfloat16 differently."""
    return [(f.severity, f.check, f.place, f.what if f.severity == ERROR else "") for f in report.findings]
