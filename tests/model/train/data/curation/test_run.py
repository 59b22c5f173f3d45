"""A tiny corpus through all steps: what is kept, what the report counts, and what is refused."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.cli.main import main
from model.train.data.corpus import CorpusError, corpus_files, read_stream, sampling_shares
from model.train.data.curation.run import curate
from tests.model.train.data.curation.test_duplicates import prose
from tests.model.train.data.curation.test_language import TEXTS
from tests.model.train.data.curation.test_rules import DROPPED, PROSE

CLEAN, HELD = " ".join(prose(20)), " ".join(prose(21))
STORIES = [
    PROSE,
    f"{CLEAN}\r\nWrite to bob@example.com.",
    PROSE.upper(),
    f"{CLEAN} Write to bob@example.com or to eve@example.com.",
    HELD,
    TEXTS["ru"],
    DROPPED["markup"],
    DROPPED["scanning errors"],
]


def write(folder: Path, streams: dict[str, list[str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, texts in streams.items():
        domain, lang = name.split(".")[:2]
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            for number, text in enumerate(texts):
                origin = {"domain": domain, "lang": lang, "source": f"source {number % 2}", "license": "CC0-1.0"}
                file.write(json.dumps({"text": text} | origin) + "\n")
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    code = "def add(left, right):\n    return left + right\n"
    return write(tmp_path / "corpus", {"stories.en.00": STORIES, "code.python": [code, code, "x = 1"]})


@pytest.fixture
def heldout(tmp_path: Path) -> Path:
    return write(tmp_path / "heldout", {"stories.en": [f"{HELD} and more of it"]})


def add_up(report: dict[str, Any]) -> None:
    """What goes into a step is what came out of the one before; every sum agrees with every other."""
    came = report["in"]
    for step in report["steps"]:
        assert step["in"]["records"] == came["records"]
        dropped = {key: sum(rule[key] for rule in step["dropped"]) for key in ("records", "bytes")}
        assert step["out"]["records"] == step["in"]["records"] - dropped["records"]
        if step["name"] != "normalisation":
            assert step["in"] == came
            assert step["out"]["bytes"] == step["in"]["bytes"] - dropped["bytes"]
        came = step["out"]
    assert came == report["out"]
    for part in ("in", "out"):
        for rows in (list(report["streams"].values()), report["sources"]):
            for key in ("records", "bytes"):
                assert sum(row[part][key] for row in rows) == report[part][key]
    by_stream = sum(sum(stream["dropped"].values()) for stream in report["streams"].values())
    assert by_stream == report["in"]["records"] - report["out"]["records"]


def test_every_step_drops_what_it_is_for(corpus: Path, heldout: Path, tmp_path: Path) -> None:
    report = curate(corpus, tmp_path / "out", heldout)
    add_up(report)
    dropped = {rule["rule"]: rule["records"] for step in report["steps"] for rule in step["dropped"]}
    assert dropped == {
        "other language": 1, "markup": 1, "scanning errors": 1, "too short": 1, "exact duplicate": 2,
        "near duplicate": 1, "held-out text": 1,
    }  # fmt: skip
    assert report["steps"][0]["changed"] == 3
    assert report["streams"]["stories.en"]["dropped"]["markup"] == 1
    assert report["safety"] == {"e-mail address": {"records": 1, "found": 1}}
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report


def test_what_is_kept_has_the_same_layout_and_provenance(corpus: Path, tmp_path: Path) -> None:
    report = curate(corpus, tmp_path / "out")
    streams = corpus_files(tmp_path / "out")
    assert [path.name for paths in streams.values() for path in paths] == [
        "code.python.jsonl.gz", "stories.en.00.jsonl.gz",
    ]  # fmt: skip
    kept = list(read_stream(streams["stories.en"]))
    assert [record.text[:20] for record in kept] == [text[:20] for text in (PROSE, CLEAN, HELD)]
    assert kept[1].text == f"{CLEAN}\nWrite to bob@example.com."
    assert {(record.source, record.license) for record in kept} <= {("source 0", "CC0-1.0"), ("source 1", "CC0-1.0")}
    assert report["streams"]["stories.en"]["out"]["bytes"] == sum(len(record.text.encode()) for record in kept)


def test_report_names_files_sources_and_examples(corpus: Path, tmp_path: Path) -> None:
    report = curate(corpus, tmp_path / "out")
    names = {file["name"]: file["sha256"] for file in report["files"]}
    path = corpus / "code.python.jsonl.gz"
    assert names[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [source["source"] for source in report["sources"]] == ["source 0", "source 1"]
    for step in report["steps"]:
        for rule in step["dropped"]:
            assert 1 <= len(rule["examples"]) <= 3
            assert all(len(example["text"]) <= 200 for example in rule["examples"])
    assert str(tmp_path) not in json.dumps(report)


def test_same_input_gives_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        curate(corpus, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["code.python.jsonl.gz", "report.json", "stories.en.00.jsonl.gz"]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)


def test_stream_with_nothing_left_has_no_file(tmp_path: Path) -> None:
    report = curate(write(tmp_path / "corpus", {"a.en": [PROSE], "b.en": ["short"]}), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.en.jsonl.gz", "report.json"]
    assert [stream["weight"] for stream in report["streams"].values()] == [1.0, 0.0]


def test_output_must_not_be_input(corpus: Path) -> None:
    with pytest.raises(CorpusError, match="is an input"):
        curate(corpus, corpus)


def test_weights_are_roots_of_sizes() -> None:
    assert sampling_shares({"a": 100, "b": 400, "c": 0}) == {"a": 1 / 3, "b": 2 / 3, "c": 0}
    assert sampling_shares({"a": 0}) == {"a": 0}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from([*STORIES, *DROPPED.values(), "a\u0301 " * 20]) | st.text(max_size=40),
        min_size=1,
        max_size=8,
    )
)
def test_counts_add_up_for_any_records(tmp_path: Path, texts: list[str]) -> None:
    folder = write(tmp_path / "corpus", {"any.en": texts})
    add_up(curate(folder, tmp_path / "out", folder))


def test_command_reports_each_rule(corpus: Path, heldout: Path, tmp_path: Path) -> None:
    arguments = ["curate", "--corpus", str(corpus), "--heldout", str(heldout), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "quality: markup: 1 records" in result.output
    assert "3 of 11 records" in result.output


@pytest.mark.parametrize("line", ["not json", '{"text": "a"}'])
def test_command_refuses_in_one_line_and_leaves_nothing(corpus: Path, tmp_path: Path, line: str) -> None:
    (corpus / "zz.en.jsonl.gz").write_bytes(gzip.compress(line.encode()))
    result = CliRunner().invoke(main, ["curate", "--corpus", str(corpus), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "zz.en.jsonl.gz, line 1 is not a record" in result.output.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus"]


def test_command_refuses_a_folder_without_corpus(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["curate", "--corpus", str(tmp_path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "holds no *.jsonl.gz file" in result.output
