"""The tables of a model's parts."""

from model.checkpoint.embedded import RELEASED
from pages.learn.architecture import catalogue, tables


def test_last_row_is_the_model_and_leaves_out_multi_token_prediction() -> None:
    table = tables.everything(catalogue.load("deepseek-v3").parts, 0, "bfloat16")
    assert table["part"].tolist()[-2:] == ["Multi-token prediction, layer 61", "the model"]
    for column in ("parameters", "active", "cache bytes kept"):
        assert table[column].iloc[:-2].sum() == table[column].iloc[-1]
    assert table["parameters"].iloc[-1] == 671_026_419_200


def test_parts_stand_side_by_side() -> None:
    before, after = (catalogue.load(name).parts for name in RELEASED)
    table = tables.side_by_side(before, after, 4096).set_index("part")
    added = table[table["added"] != 0]
    assert added["parameters, V3"].tolist()[:2] == [0, 0]
    assert added.loc["Indexer, layers 3 to 60", "V3.2"] == 58 * 13_959_424
    assert table.loc["Embedding", "added"] == 0


def test_names_of_tensors_without_what_they_begin_with() -> None:
    parts = {part.key: part for part in catalogue.load("deepseek-v3").parts.all}
    prefix, table = tables.tensors(parts["moe-attention"])
    assert prefix == "model.layers.{layer}.self_attn."
    assert "q_a_proj.weight" in table["tensor"].tolist()


def test_parameters_by_kind_of_part() -> None:
    shown = {name: catalogue.load(name).parts for name in ("deepseek-v3.2", "deepseek-v4-flash")}
    table = tables.by_kind(shown).set_index("part")
    assert table.loc["Dense feed-forward"].tolist() == [3 * 396_361_728, 0]
    assert table.loc["Experts"].tolist() == [58 * 256 * 44_040_192, 43 * 256 * 25_165_824]
    assert table.loc["Mixes of streams"].tolist() == [0, 86 * 393_243 + 65_541]
    without_mtp = table.drop("Multi-token prediction").sum()
    assert without_mtp.tolist() == [671_877_944_064, 284_332_240_471]
