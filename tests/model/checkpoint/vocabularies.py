"""Small tokenizer.json files of SentencePiece kind, trained here, in the pipelines that published files have."""

import functools
import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = [
    "the cat and the dog",
    "don't stop 12345",
    "été déjà Übermut",
    "数を数える",
    "x = f(y)\n\n",
    "مرحبا بالعالم",
] * 20
SPECIAL = ["<unk>", "<s>", "</s>"]
_SPACES = normalizers.Replace(" ", "▁")
_JOIN = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
_STRIP = [*_JOIN, decoders.Strip(" ", 1, 0)]
# Name -> (normaliser, pre-tokeniser, decoder).
_PIPELINES: dict[str, tuple[Any, Any, Any]] = {
    "mixtral": (normalizers.Sequence([normalizers.Prepend("▁"), _SPACES]), None, decoders.Sequence(_STRIP)),
    "metaspace": (None, pre_tokenizers.Metaspace("▁", "first", False), decoders.Sequence(_STRIP)),
    "gemma": (_SPACES, pre_tokenizers.Split(" ", "merged_with_previous"), decoders.Sequence(_JOIN)),
    "unigram": (None, pre_tokenizers.Metaspace("▁", "always", True), decoders.Metaspace("▁", "always", True)),
}
NAMES = tuple(_PIPELINES)


@functools.cache
def _trained(name: str) -> str:
    normalizer, pre_tokenizer, decoder = _PIPELINES[name]
    tokenizer = Tokenizer(models.Unigram() if name == "unigram" else models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.decoder = decoder
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    options: dict[str, Any] = {"vocab_size": 300, "special_tokens": special, "show_progress": False}
    if name == "unigram":
        tokenizer.train_from_iterator(TEXTS, trainers.UnigramTrainer(unk_token="<unk>", **options))
    else:
        tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(**options))
    return tokenizer.to_str()


def published(name: str) -> dict[str, Any]:
    """Return the parsed tokenizer.json of a pipeline; its last 256 entries are the bytes."""
    trained = json.loads(_trained(name))
    model, size = trained["model"], len(trained["model"]["vocab"])
    spelled = [f"<0x{byte:02X}>" for byte in range(256)]
    if name == "unigram":
        model["vocab"] += [[entry, 0.0] for entry in spelled]
    else:
        model["vocab"] |= {entry: size + byte for byte, entry in enumerate(spelled)}
    return trained | {"model": model | {"byte_fallback": True}}


def by_hand() -> dict[str, Any]:
    """Return a tokenizer.json of eight entries like Mixtral's: `a b` is `<s>` (1), `▁a` (7), `▁` (3), `b` (5)."""
    entries = [*SPECIAL, "▁", "a", "b", "c", "▁a"]
    library = Tokenizer.from_str(json.dumps(published("mixtral")))
    library.model = models.BPE({entry: i for i, entry in enumerate(entries)}, [("▁", "a")], unk_token="<unk>")
    library.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return json.loads(library.to_str())


def write(folder: Path, content: dict[str, Any]) -> Path:
    """Write a tokenizer.json to a folder, and return the folder."""
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder
