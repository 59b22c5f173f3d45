"""Sums over the parts of a model, by hand."""

import dataclasses

from model.checkpoint import costs
from model.checkpoint.parts import Part, Parts, PartTensor, Reads, read_parts
from tests.models import tiny_config


def matrix(rows: int, columns: int) -> PartTensor:
    size = rows * columns
    return PartTensor("w", (rows, columns), 1, 1, {"bfloat16": 2 * size, "float32": 4 * size})


def parts(*kinds: str) -> Parts:
    """Return a model with attention of shape 2 x 3 in two layers and parts of other kinds, 1 x 5, in one layer."""
    reads = {"attention": (Reads(10, 4, 8),), "indexer": (Reads(1, 2),)}
    own = [
        Part(
            kind,
            "",
            (0, 1) if kind == "attention" else (0,),
            (matrix(2, 3) if kind == "attention" else matrix(1, 5),),
            reads.get(kind, ()),
        )
        for kind in kinds
    ]
    empty = read_parts(tiny_config())
    return dataclasses.replace(empty, before=tuple(own), blocks=(), after=(), mtp=None)


def test_cost_of_a_layer_and_of_all() -> None:
    (attention, _) = parts("attention", "ffn").main
    # Attention sees 100 tokens and reads 8 of them: 6 + 8 x 10 multiply-adds, 4 numbers kept, 32 read.
    one = costs.layer_cost(attention, 100, "bfloat16")
    assert one == costs.Cost(6, 6, 86, 12, 8, 64)
    assert costs.part_cost(attention, 100, "bfloat16") == costs.Cost(12, 12, 172, 24, 16, 128)
    assert costs.layer_cost(attention, 100, "float32") == costs.Cost(6, 6, 86, 24, 16, 128)
    assert costs.model_cost(parts("attention", "ffn"), 100, "bfloat16") == costs.Cost(17, 17, 177, 34, 16, 128)


def test_work_that_grows_with_the_context() -> None:
    before, after = parts("attention", "ffn"), parts("attention", "indexer", "ffn")
    assert [part.kind for part in costs.added_parts(before, after)] == ["indexer"]
    assert costs.attention_work(before, 4) == 2 * (6 + 4 * 10)
    assert costs.attention_work(after, 100) == 2 * 86 + 5 + 100
    work = costs.work_by_context(before, after, [4, 100])
    assert work.sel(model="V3").values.tolist() == [92, 172]
    assert work.sel(model="V3.2, indexers alone").values.tolist() == [9, 105]
