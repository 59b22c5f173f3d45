"""Models of transformers, opened on a pretended GPU (tests/pretended_device.py), record what they record on the CPU."""

import pytest
import torch

from model.families.folder import open_folder
from model.families.seam import instrument
from model.families.tape import Tape
from tests.closeness import ROUNDING, relative_error
from tests.families import saved
from tests.pretended_device import pretend

pretend()
PASSES = (list(range(3, 15)), [41])


def recorded(model_type: str, device: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a prompt and of a generated token, by name."""
    model = open_folder(saved(model_type), torch.device(device), torch.float32).model
    seam, cache, tensors = instrument(model), None, {}
    where, tape = next(model.parameters()).device, Tape(attention=seam.attention.keys(), inputs=True)
    assert where.type == device
    for number, token_ids in enumerate(PASSES):
        with torch.inference_mode(), tape.running():
            ids_BT = torch.tensor([token_ids], device=where)
            output = model(input_ids=ids_BT, past_key_values=cache, use_cache=True)
        cache, taken = output.past_key_values, tape.take()
        tensors[f"{number}.logits"] = output.logits.cpu()
        for path, raw in taken.routing.items():
            tensors |= {f"{number}.{path}.{name}": part for name, part in raw._asdict().items() if part is not None}
        tensors |= {f"{number}.{path}": part.weights_HQS for path, part in taken.attention.items()}
        tensors |= {f"{number}.input.{layer}": rows_TD for layer, rows_TD in taken.inputs.items()}
        tensors |= {f"{number}.norm.{layer}": norms_T for layer, norms_T in taken.norms.items()}
    return tensors


@pytest.mark.parametrize("model_type", ["qwen3_moe", "gpt_oss", "deepseek_v4", "jamba", "jetmoe", "kolibri1"])
def test_both_devices_record_the_same(model_type: str) -> None:
    on_gpu, on_cpu = (recorded(model_type, device) for device in ("pretended", "cpu"))
    assert on_gpu.keys() == on_cpu.keys()
    for name, expected in on_cpu.items():
        assert on_gpu[name].device.type == "cpu", name
        if expected.is_floating_point():
            assert relative_error(on_gpu[name], expected) <= ROUNDING, name
        else:
            assert torch.equal(on_gpu[name], expected), name
