"""The figures of healthy models in the docstrings of the weight checks are those of the embedded models."""

import collections
from types import ModuleType

import numpy as np
import pytest

from model.checkpoint.embedded import embedded_models, find_model
from model.checkpoint.files import ModelFolder
from model.doctor import blocks, experts, gate, unscaled
from model.doctor.reading import layers, own_layout
from model.doctor.tensors import Scanned


def ratio(sizes: np.ndarray) -> float:
    """The largest factor, up or down, between a size and the median."""
    return float(np.exp(np.abs(np.log(sizes / np.median(sizes))).max()))


def cosine(rows: np.ndarray) -> float:
    """The largest cosine of two rows."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return float(np.triu(unit @ unit.T, 1).max())


@pytest.fixture(scope="module")
def figures() -> dict[str, float]:
    largest: dict[str, float] = collections.defaultdict(float)

    def note(name: str, value: float) -> None:
        largest[name] = max(largest[name], value)

    for model in embedded_models():
        with ModelFolder(find_model(model)) as folder:
            for layer, tensors in layers(folder, own_layout(folder), lambda progress: None, None):
                families: dict[tuple[str, tuple[int, ...]], list[Scanned]] = collections.defaultdict(list)
                for tensor in tensors:
                    name = tensor.stored.name if tensor.place.expert is None else tensor.place.part
                    families[name, tensor.stored.shape].append(tensor)
                    if tensor.values is not None and tensor.values.ndim == 2:
                        note("gate norm", ratio(np.linalg.norm(tensor.values, axis=1)))
                        note("gate cosine", cosine(tensor.values))
                    if len(tensor.stored.shape) == 2:
                        note("rms", tensor.rms)
                for alike in families.values():
                    if len(alike) > 1:
                        note("expert size", ratio(np.array([tensor.typical for tensor in alike])))
                        note("expert cosine", cosine(np.stack([tensor.sample for tensor in alike])))
                    scaled = [tensor.blocks.rms for tensor in alike if tensor.blocks is not None]
                    if scaled and layer is not None:
                        apart, _ = blocks._residuals(np.stack(scaled))
                        few = apart.size < blocks.MANY_BLOCKS
                        note("few blocks" if few else "many blocks", float(np.exp(np.abs(apart).max())))
    return largest


@pytest.mark.parametrize(
    ("module", "name", "digits", "words"),
    [
        (experts, "expert cosine", 2, "the embedded models reach {}."),
        (experts, "expert size", 2, "the embedded models reach a factor of {}."),
        (gate, "gate norm", 2, "models reach a factor of {},"),
        (gate, "gate cosine", 2, "the embedded models reach {},"),
        (unscaled, "rms", 2, "matrices of the embedded models reach {}."),
        (blocks, "few blocks", 2, "reach a factor of {}, in a matrix of 4 blocks"),
        (blocks, "many blocks", 2, "and {} among 16 or more"),
    ],
)
def test_a_figure_of_a_docstring_is_measured(
    figures: dict[str, float], module: ModuleType, name: str, digits: int, words: str
) -> None:
    text = " ".join((module.__doc__ or "").split())
    assert words.format(f"{figures[name]:.{digits}f}") in text, figures[name]
