"""A whole sweep over small files with a source that has no model, against sums that plain loops compute."""

import collections
import dataclasses
import functools
import gzip
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from model.atlas.folder import Sweep, open_sweep
from model.atlas.manifest import Manifest
from model.atlas.schema import MARGIN_COLUMNS, TOKEN_CLASSES, bucket_of, margin_bin
from model.sweep.classes import TokenClasses
from model.sweep.routing import encode
from model.sweep.run import finish, in_this_process, prepare_sweep, sweep
from model.sweep.settings import Failure, Settings, Summary, SweepError
from model.sweep.sweeper import Sweeper
from model.sweep.texts import Document, read_documents
from tests.sources import FakeSource
from tests.test_architecture import ROOT

WORDS = "the wolf returned 17 (x, y); naïve мир 世界 for\n\n  if"


def write_texts(folder: Path, count: int = 23) -> tuple[str, ...]:
    """Write two files of documents with labels, of 3 to 170 tokens each."""
    folder.mkdir(exist_ok=True)
    rows = [
        {
            "text": (WORDS + f" {number}") * (1 + number % 9),
            "domain": ("code", "math")[number % 2],
            "lang": "en",
            "source": f"s{number % 3}",
        }
        for number in range(count)
    ]
    one, two = folder / "a.jsonl.gz", folder / "b.jsonl"
    one.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows[:15]).encode(), mtime=0))
    two.write_text("\n".join([*(json.dumps(row) for row in rows[15:]), '{"text": ""}', "nonsense"]))
    return str(one), str(two)


def settings_for(folder: Path, **changes: object) -> Settings:
    chosen: dict[str, object] = {"batch_tokens": 100, "shard_tokens": 900, "keep": ("ids", "examples", "bits")}
    return Settings(model="fake", paths=write_texts(folder / "texts"), out=str(folder / "out"), **(chosen | changes))


def run(settings: Settings, source: FakeSource | None = None, stop_after: int | None = None) -> Manifest:
    """Run a sweep with a fake source; stop as Ctrl-C does after some shards."""
    source = source or FakeSource()
    prepared = prepare_sweep(settings, source, lambda done, total: None)
    for number, _ in enumerate(in_this_process(source)(prepared.settings, prepared.missing)):
        if number + 1 == stop_after:
            raise KeyboardInterrupt
    return finish(prepared, source)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Sweep]:
    settings = settings_for(tmp_path_factory.mktemp("sweep"))
    run(settings)
    return settings, open_sweep(settings.out)


@dataclasses.dataclass
class Expected:
    """A document with what the source decides for it."""

    document: Document
    token_ids: np.ndarray
    classes: np.ndarray
    ids: np.ndarray
    weights: np.ndarray
    margins: np.ndarray
    norms: np.ndarray
    bits: np.ndarray


@functools.cache
def expected(settings: Settings) -> list[Expected]:
    """Route each document by hand: whole, or in windows of 64 with BOS and 32 tokens of context."""
    source, found = FakeSource(), []
    classes = TokenClasses(source.tokenizer, source.vocab_size)
    for path in settings.paths:
        for document in read_documents(Path(path), settings):
            if not isinstance(document, Document):
                continue
            ids = encode(source.tokenizer, document)
            parts = [source.of(ids[:64])]
            for start in range(64, len(ids), 31):
                window = np.concatenate([ids[:1], ids[start - 32 : start + 31]])
                parts.append(tuple(values[33:] for values in source.of(window)))
            joined = (np.concatenate(values) for values in zip(*parts, strict=True))
            found.append(Expected(document, ids, classes.of(ids, document.domain), *joined))
    return found


def test_documents_come_in_order_with_their_counts(swept: tuple[Settings, Sweep]) -> None:
    settings, result = swept
    documents = expected(settings)
    assert len(result.documents) == len(documents) == 23
    assert result.documents["tokens"].tolist() == [len(each.token_ids) for each in documents]
    assert result.documents["truncated"].tolist() == [len(each.token_ids) > 64 for each in documents]
    assert result.documents["truncated"].any()
    assert result.labels("source").tolist() == [each.document.source for each in documents]
    counts = [[np.bincount(each.ids[:, layer].ravel(), minlength=8) for layer in range(3)] for each in documents]
    assert np.array_equal(result.counts_DLE, counts)
    np.testing.assert_allclose(result.documents["bits"], [np.nansum(each.bits) for each in documents])
    lengths = [len(each.document.text.encode()) for each in documents]
    assert result.documents["bytes"].tolist() == lengths


def test_kept_ids_are_the_decisions(swept: tuple[Settings, Sweep]) -> None:
    settings, result = swept
    rows = pd.read_parquet(Path(settings.out) / "documents.parquet")
    for row, each in zip(rows.to_dict("records"), expected(settings), strict=True):
        assert np.array_equal(np.frombuffer(row["ids"], "u1").reshape(-1, 3, 2), each.ids)
        assert np.array_equal(np.frombuffer(row["token_ids"], "<u4"), each.token_ids)
        assert np.array_equal(np.frombuffer(row["margins"], "<f2").reshape(-1, 3), each.margins.astype("f2"))


def test_cells_hold_the_sums_of_documents(swept: tuple[Settings, Sweep]) -> None:
    settings, result = swept
    cells = result.cells.merge(result.strata[["stratum", "domain", "language", "source", "token_class"]])
    assert len(cells) == len(result.cells)
    table = {
        (row.domain, row.source, row.token_class, row.layer, row.expert): row
        for row in cells.itertuples()
    }  # fmt: skip
    sums: dict[tuple, dict[str, float]] = collections.defaultdict(lambda: collections.defaultdict(float))
    for each in expected(settings):
        for number, name in enumerate(TOKEN_CLASSES):
            chosen = (each.classes == number) | (name == "all")
            n = int(chosen.sum()) * 2
            for place, layer in enumerate((1, 2, 4)):
                for expert in range(8):
                    hit = (each.ids[:, place] == expert) & chosen[:, None]
                    if not (c := int(hit.sum())):
                        continue
                    g, f = each.weights[:, place][hit].astype(float), each.norms[:, place][hit].astype(float)
                    cell = sums[each.document.domain, each.document.source, name, layer, expert]
                    margins = np.repeat(each.margins[:, place][:, None], 2, 1)[hit]
                    parts = {"docs_hit": 1, "c": c, "c2": c * c, "cn": c * n, "weight_sum": g.sum()}
                    parts |= {"norm_sum": f.sum(), "weighted_norm_sum": (g * f).sum()}
                    parts |= {"weighted_norm2_sum": ((g * f) ** 2).sum()}
                    bins = np.bincount(margin_bin(margins), minlength=16)
                    for key, value in (parts | dict(zip(MARGIN_COLUMNS, bins, strict=True))).items():
                        cell[key] += value
    assert table.keys() == sums.keys()
    assert {key[2] for key in sums} == set(TOKEN_CLASSES)
    for key, cell in sums.items():
        for name, value in cell.items():
            assert getattr(table[key], name) == pytest.approx(value, rel=1e-9), (key, name)


def test_strata_hold_the_sizes_of_documents(swept: tuple[Settings, Sweep]) -> None:
    settings, result = swept
    rows = result.strata.set_index(["domain", "source", "token_class"])
    for domain, source in {(each.document.domain, each.document.source) for each in expected(settings)}:
        own = [each for each in expected(settings) if (each.document.domain, each.document.source) == (domain, source)]
        for number, name in enumerate(TOKEN_CLASSES):
            n = [2 * int(((each.classes == number) | (name == "all")).sum()) for each in own]
            if not sum(n):
                assert (domain, source, name) not in rows.index
                continue
            row = rows.loc[(domain, source, name)]
            assert (row["docs"], row["sum_n"]) == (sum(size > 0 for size in n), sum(n))
            assert row["sum_n2"] == sum(size * size for size in n)


def test_pairs_and_transitions_hold_the_sums_of_documents(swept: tuple[Settings, Sweep]) -> None:
    settings, result = swept
    documents = expected(settings)
    for place, layer in enumerate((1, 2, 4)):
        one = [np.eye(8, dtype=int)[each.ids[:, place]].sum(1) for each in documents]  # [token, expert]
        c, n = np.array([hits.sum(0) for hits in one]), np.array([2 * len(hits) for hits in one])
        tables = [("pairs", one, c)]
        if place < 2:
            later = [np.eye(8, dtype=int)[each.ids[:, place + 1]].sum(1) for each in documents]
            tables.append(("transitions", later, np.array([hits.sum(0) for hits in later])))
        for name, others, cj in tables:
            rows = getattr(result, name).query(f"layer == {layer}").set_index(["i", "j"])
            a = np.array([first.T @ second for first, second in zip(one, others, strict=True)])
            for (i, j), row in rows.iterrows():
                own = a[:, i, j]
                values = (own, own**2, own * c[:, i], own * cj[:, j], own * n, c[:, i] * cj[:, j])
                keys = ("a", "a2", "a_ci", "a_cj", "a_n", "ci_cj")[: 6 if name == "pairs" else 5]
                assert [row[key] for key in keys] == [value.sum() for value in values[: len(keys)]]
            assert len(rows) == (28 if name == "pairs" else np.count_nonzero(a.sum(0)))


def test_positions_hold_the_sums_of_documents(swept: tuple[Settings, Sweep]) -> None:
    settings, result = swept
    rows = result.positions.set_index(["layer", "expert", "bucket"])
    for bucket in range(8):
        hits, n = [], []
        for each in expected(settings):
            chosen = bucket_of(np.arange(len(each.token_ids))) == bucket
            hits.append([[(each.ids[chosen, place] == e).sum() for e in range(8)] for place in range(3)])
            n.append(2 * chosen.sum())
        c, n = np.array(hits), np.array(n)
        row = rows.loc[(4, 5, bucket)]
        own = c[:, 2, 5]
        assert row.tolist() == [own.sum(), (own**2).sum(), (own * n).sum(), n.sum(), (n**2).sum()]


def test_tokens_are_counted_per_expert(swept: tuple[Settings, Sweep]) -> None:
    settings, result = swept
    c, docs, weights = collections.Counter(), collections.Counter(), collections.Counter()
    totals = collections.Counter()
    for each in expected(settings):
        totals.update(each.token_ids.tolist())
        keys = [
            (layer, int(each.ids[token, place, rank]), int(each.token_ids[token]))
            for token in range(len(each.token_ids))
            for place, layer in enumerate((1, 2, 4))
            for rank in range(2)
        ]
        c.update(keys)
        docs.update(set(keys))
        for key, weight in zip(keys, each.weights.ravel().tolist(), strict=True):
            weights[key] += weight
    rows = {(row.layer, row.expert, row.token_id): row for row in result.tokens.itertuples()}
    assert rows.keys() == c.keys()
    for key, row in rows.items():
        assert (row.c, row.docs, row.total) == (c[key], docs[key], totals[key[2]])
        assert row.weight_sum == pytest.approx(weights[key])
    assert {" (", "<｜begin▁of▁sentence｜>"} <= {row.text for row in rows.values()}


def test_examples_have_the_largest_weights_of_different_documents(swept: tuple[Settings, Sweep]) -> None:
    settings, result = swept
    documents = expected(settings)
    by_id = dict(zip(result.documents["doc_id"], documents, strict=True))
    best = [
        max((float(w) for w in each.weights[:, 0][each.ids[:, 0] == 3]), default=-1.0)
        for each in documents
    ]  # fmt: skip
    rows = result.examples.query("layer == 1 and expert == 3")
    assert rows["weight"].tolist() == sorted(best, reverse=True)[:8]
    assert rows["doc_id"].is_unique
    for row in rows.itertuples():
        each = by_id[row.doc_id]
        assert 3 in each.ids[row.position, 0]
        if row.position:
            assert row.before.endswith(each.document.text[:1]) or row.before + row.token + row.after


def test_manifest_lists_failures_and_the_check(swept: tuple[Settings, Sweep]) -> None:
    _, result = swept
    manifest = result.manifest
    assert [(row["file"], row["document"], row["error"]) for row in manifest.failed] == [
        (1, 8, "its text is empty"),
        (1, 9, "line 10 is no JSON object"),
    ]
    assert manifest.invariance is not None
    assert manifest.invariance["different"] == 0
    assert manifest.invariance["decisions"] > 0
    assert {"bits", "examples", "margins", "norms", "pairs", "tokens", "weights"} <= set(manifest.capture)
    assert sum(entry["documents"] for entry in manifest.inputs) == 25


def test_a_source_that_changes_its_mind_is_reported(tmp_path: Path) -> None:
    manifest = run(settings_for(tmp_path), FakeSource(unsteady=True))
    assert manifest.invariance is not None
    assert manifest.invariance["different"] > manifest.invariance["decisions"] / 2


def blocks(language: str) -> list[str]:
    """Return the examples of docs/sweep.md in a language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs/sweep.md").read_text(encoding="utf-8"), re.DOTALL)


def rows_of(query: str, folder: Path) -> pd.DataFrame:
    return duckdb.sql(re.sub(r"'(\w+\.parquet)'", rf"'{folder}/\1'", query)).df()


def test_example_queries_of_the_docs_give_the_sums(swept: tuple[Settings, Sweep]) -> None:
    settings, result = swept
    shares, tokens, bits = (rows_of(query, Path(settings.out)) for query in blocks("sql"))
    code = result.counts_DLE[result.labels("domain") == "code"]
    own = shares.query("domain == 'code' and layer == 2")
    assert len(own) == 8
    for row in own.itertuples():
        assert row.share == pytest.approx(code[:, 1, row.expert].sum() / code[:, 1].sum())
    assert len(tokens) == len(result.tokens.query("docs >= 2 and c > 0.5 * total")) > 0
    (row,) = bits.itertuples()
    assert (row.language, row.documents) == ("en", 23)
    assert row.bits_per_byte == pytest.approx(result.documents["bits"].sum() / result.documents["bytes"].sum())


def test_both_examples_of_an_error_over_documents_agree(swept: tuple[Settings, Sweep]) -> None:
    first, second = (text.replace("runs/sweep", swept[0].out) for text in blocks("python"))
    from_documents: dict[str, Any] = {}
    from_sums: dict[str, Any] = {}
    exec(first, from_documents)
    exec(second, from_sums)
    np.testing.assert_allclose(from_sums["error"].loc[1], from_documents["error"])
    np.testing.assert_allclose(from_sums["p"].loc[1], from_documents["share"])


TABLES = ["documents", "strata", "counts", "tokens", "positions", "pairs", "transitions", "examples"]


def contents(settings: Settings) -> list[bytes]:
    return [(Path(settings.out) / f"{name}.parquet").read_bytes() for name in TABLES]


def test_a_stopped_sweep_goes_on_to_the_same_bytes(swept: tuple[Settings, Sweep], tmp_path: Path) -> None:
    whole, settings = swept[0], settings_for(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(settings, stop_after=2)
    parts = sorted((tmp_path / "out" / "parts").iterdir())
    assert [part.name for part in parts] == ["part-00000.parquet", "part-00001.parquet"]
    content = parts[1].read_bytes()
    parts[1].write_bytes(content[: len(content) // 2])  # as a machine that lost power leaves it
    (tmp_path / "out" / "parts" / ".part-00002.parquet.ab.tmp").write_bytes(b"half")  # as kill -9 leaves it
    prepared = prepare_sweep(settings, FakeSource(), lambda done, total: None)
    assert prepared.damaged == ("part-00001.parquet",)
    assert prepared.missing[0] == 1
    assert 0 not in prepared.missing
    run(settings)
    assert contents(settings) == contents(whole)
    assert not list((tmp_path / "out" / "parts").glob(".*"))


def test_documents_that_the_model_cannot_run_are_listed(tmp_path: Path) -> None:
    source = FakeSource()
    poison = source.tokenizer.encode(" 9")[-1]
    source.poison = poison
    settings = settings_for(tmp_path)
    manifest = run(settings, source)
    bad = [number for number, each in enumerate(expected(settings)) if poison in each.token_ids]
    errors = [row for row in manifest.failed if "probabilities" in row["error"]]
    assert len(errors) == len(bad) > 0
    assert errors[0]["error"] == "the sum of probabilities is not finite"
    assert len(open_sweep(settings.out).documents) == 23 - len(bad)


def test_another_request_in_the_same_folder_is_refused(swept: tuple[Settings, Sweep]) -> None:
    settings = swept[0]
    before = contents(settings)
    for changed, source, message in [
        (dataclasses.replace(settings, batch_tokens=64), FakeSource(), "request.batch_tokens is 64 and 100"),
        (settings, FakeSource(weights_sha256="1" * 64), r"another sweep: model\.weights_sha256 is "),
        (dataclasses.replace(settings, paths=settings.paths[:1]), FakeSource(), r"other files \(b\.jsonl\)"),
        (
            dataclasses.replace(settings, window=32),
            FakeSource(),
            r"request\.policy\.window is 32 and 64 now and there, and 1 more differ",
        ),
    ]:
        with pytest.raises(SweepError, match=message):
            run(changed, source)
    assert contents(settings) == before


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(SweepError, match="is not empty and holds no sweep"):
        run(settings)


def test_a_full_disk_keeps_the_finished_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, source = settings_for(tmp_path), FakeSource()
    monkeypatch.setattr("model.sweep.run.open_source", lambda settings: source)

    def fills_up(settings: Settings, shards: Sequence[int]) -> Iterator[Summary]:
        sweeper = Sweeper(settings, source)
        yield sweeper.route(shards[0])
        raise OSError(28, "No space left on device", str(settings.part(shards[1])))

    with pytest.raises(SweepError, match=r"part-00001\.parquet: No space left on device; 1 of \d+ shards are finished"):
        sweep(settings, fills_up)
    reports = []
    sweep(settings, on_progress=reports.append)
    assert (reports[0].done, reports[-1].done) == (1, reports[-1].shards)
    assert reports[-1].tokens_done == reports[-1].tokens
    assert reports[0].rate is None
    assert reports[-1].seconds_left == 0


def test_a_shard_that_no_worker_finishes_is_listed_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swept: tuple[Settings, Sweep]
) -> None:
    monkeypatch.setattr("model.sweep.run.open_source", lambda settings: FakeSource())
    settings, notes = settings_for(tmp_path), []

    def results(planned: Settings, shards: Sequence[int]) -> Iterator[Summary | Failure]:
        sweeper = Sweeper(planned, FakeSource())
        for shard in shards:
            yield Failure(shard, "its worker died") if shard == lost else sweeper.route(shard)

    lost = 1
    manifest = sweep(settings, results, on_note=notes.append)
    shard = Manifest.read(Path(settings.out)).shards[lost]
    numbers = range(shard["first"], shard["first"] + shard["count"])
    listed = [entry["document"] for entry in manifest.failed if entry["shard"] == lost]
    assert (listed, notes) == (list(numbers), [f"shard {lost} could not be routed: its worker died"])
    assert len(open_sweep(settings.out).documents) == len(swept[1].documents) - len(numbers)
    lost = -1
    assert len(sweep(settings, results).failed) == len(swept[1].manifest.failed)
    assert open_sweep(settings.out).cells.equals(swept[1].cells)
