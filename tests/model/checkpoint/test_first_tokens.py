"""The tokens that begin a run, as published files state them."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Library
from tokenizers import processors

from model.checkpoint.tokenizer import Tokenizer, TokenizerError
from tests.model.checkpoint.vocabularies import published, write

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
CONTENT = published("gemma")


def template(*single: str, **ids: int) -> dict[str, Any]:
    """Return a template, as the library writes it; `$A` stands for the text."""
    library = Library.from_str(json.dumps(CONTENT))
    library.post_processor = processors.TemplateProcessing(
        single=" ".join(single), special_tokens=[(name, number) for name, number in ids.items()]
    )
    return json.loads(library.to_str())["post_processor"]


LLAMA = template("<s>", "$A", **{"<s>": 1})
GLM = template("<unk>", "<s>", "$A", **{"<unk>": 0, "<s>": 1})
T5 = template("$A", "</s>", **{"</s>": 2})
ASKS, ASKS_NOT = {"add_bos_token": True, "bos_token": "<s>"}, {"add_bos_token": False, "bos_token": {"content": "<s>"}}


def load(folder: Path, processor: Any, settings: dict[str, Any] | None = None) -> Tokenizer:
    write(folder, CONTENT | {"post_processor": processor})
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text('{"model_type": "mixtral"}')
    return Tokenizer.load(folder)


@pytest.mark.parametrize(
    ("processor", "first"),
    [
        (None, ()),
        (BYTE_LEVEL, ()),
        (LLAMA, (1,)),
        (GLM, (0, 1)),
        ({"type": "Sequence", "processors": [BYTE_LEVEL, LLAMA]}, (1,)),
        ({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]}, (1,)),
    ],
)
def test_first_tokens_are_those_that_the_library_puts_before_a_text(
    tmp_path: Path, processor: dict[str, Any] | None, first: tuple[int, ...]
) -> None:
    ours = load(tmp_path, processor)
    assert ours.first_ids == first
    library = Library.from_str(json.dumps(CONTENT | {"post_processor": processor}))
    assert library.encode("cat").ids[: len(first) + 1] == [*first, ours.encode("cat")[0]]


@pytest.mark.parametrize(
    ("processor", "settings", "first", "note"),
    [
        (LLAMA, ASKS, (1,), None),
        (None, ASKS_NOT, (), None),
        (GLM, {"add_bos_token": False}, (0, 1), None),
        (None, {"bos_token": "<s>"}, (), None),
        (None, ASKS, (1,), "runs begin with <s>, as tokenizer_config.json states (add_bos_token)"),
        (LLAMA, ASKS_NOT, (), "runs begin without <s>, as tokenizer_config.json states (add_bos_token false)"),
        (GLM, ASKS_NOT, (0,), "runs begin without <s>"),
        (None, {"add_bos_token": True}, (), "names no bos_token; runs begin without it"),
        (None, {"add_bos_token": True, "bos_token": "<x>"}, (), "the bos_token '<x>', which is no token"),
        (T5, None, (), "tokenizer.json puts </s> after a text; runs leave it out"),
    ],
)
def test_a_contradiction_is_followed_and_noted(
    tmp_path: Path, processor: Any, settings: dict[str, Any] | None, first: tuple[int, ...], note: str | None
) -> None:
    ours = load(tmp_path, processor, settings)
    assert ours.first_ids == first
    assert note in ours.notes[0] if note else ours.notes == ()


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        ({"type": "Strange"}, "its post_processor 'Strange' is not known; give token ids"),
        (7, "its post_processor 7 is not known"),
        ({"type": "TemplateProcessing"}, "its post_processor is damaged"),
        (LLAMA | {"single": []}, "its post_processor is damaged"),
        (LLAMA | {"special_tokens": {"<s>": {"ids": ["1"]}}}, "its post_processor is damaged"),
        (
            LLAMA | {"special_tokens": {"<s>": {"ids": [9999]}}},
            "its post_processor adds the id 9999, which is no token",
        ),
    ],
)
def test_a_damaged_rule_is_refused(tmp_path: Path, processor: Any, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        load(tmp_path, processor)


@pytest.mark.parametrize("config", [None, "{", '{"model_type": "deepseek_v3"}'])
def test_runs_of_the_own_network_begin_with_bos(tmp_path: Path, config: str | None) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert Tokenizer.load(write(tmp_path, CONTENT | {"post_processor": GLM})).first_ids == (1,)
