import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from model.sweep import texts
from model.sweep.settings import Settings, SweepError
from model.sweep.texts import Bad, Document, find_files, read_documents

SETTINGS = Settings(model="m", paths=(), out="out")


def documents(path: Path, **changes: tuple) -> list[Document | Bad]:
    return list(read_documents(path, Settings(model="m", paths=(), out="out", **changes)))


def test_jsonl_with_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    rows = [{"text": "é", "domain": "code", "lang": "fr", "source": "x"}, {"text": "b", "language": "en"}, {"text": 3}]
    path.write_bytes(gzip.compress("\n\n".join(map(json.dumps, rows)).encode()))
    assert documents(path) == [
        Document("é", "code", "fr", "x"),
        Document("b", None, "en", None),
        Bad("it has no text under the key 'text'"),
    ]


def test_labels_can_be_given_or_renamed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"content": "b", "topic": "math", "lang": "en"}')
    given = documents(path, keys=(("text", "content"), ("domain", "topic")), fixed=(("language", "de"),))
    assert given == [Document("b", "math", "de", None)]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"text": ["a", None, " "], "source": ["x", "y", None], "other": 1}).to_parquet(path)
    assert documents(path) == [
        Document("a", source="x"),
        Bad("it has no text under the key 'text'"),
        Bad("its text is empty"),
    ]
    with pytest.raises(SweepError, match=r"a\.parquet has no column 'body'; it has text, source, other"):
        documents(path, keys=(("text", "body"),))


def test_a_plain_file_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes("\ufeffx = 'é'\n".encode())
    assert documents(path, fixed=(("domain", "code"),)) == [Document("x = 'é'\n", "code")]
    path.write_bytes(b"ok \xff")
    assert documents(path) == [Bad("the file is not UTF-8 text (byte 3)")]
    path.write_bytes(b"a\0b")
    assert documents(path) == [Bad("its text is binary: character 2 is a zero byte")]


def test_an_endless_line_is_skipped_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "MOST_BYTES", 50)
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n' + '{"text": "' + "x" * 5000 + '"}\n{"text": "b"}\n{"text": "' + "y" * 60 + '"}')
    found = documents(path)
    assert [found[0], found[2]] == [Document("a"), Document("b")]
    assert [each.reason[:20] for each in (found[1], found[3]) if isinstance(each, Bad)] == [
        "line 2 is longer tha",
        "its text is longer t",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"\x89PNG\r\n", r"a\.jsonl is not JSONL: line 1 is no JSON object"),
        ("a.jsonl.gz", b"\x1f\x8b\x08\0abc", r"a\.jsonl\.gz is damaged"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 99, mtime=0)[:-12], r"a\.jsonl\.gz is damaged"),
        ("a.parquet", b"PAR1 half", r"a\.parquet is damaged"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SweepError, match=message) as caught:
        documents(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_folders_give_their_files_in_order(tmp_path: Path) -> None:
    for name in ("b/z.jsonl", "a.txt.gz", "b/c.parquet", "b/readme.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in find_files((tmp_path, tmp_path / "b" / "readme.pdf"))]
    assert names == ["a.txt.gz", "b/c.parquet", "b/z.jsonl", "b/readme.pdf"]
    with pytest.raises(SweepError, match="none does not exist"):
        find_files((tmp_path / "none",))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SweepError, match="empty holds no file that ends in"):
        find_files((tmp_path / "empty",))
