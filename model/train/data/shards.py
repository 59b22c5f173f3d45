"""The tokenised corpus on disk (shards): one file of uint16 ids for each stream, and an index.

A record is stored as BOS, its tokens, EOS; records follow each other without a gap. `index.json` holds the numbers of
tokens, bytes and records of each stream, the sources of the stream with their licences, and the tokenizer's SHA-256.
"""

import collections
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from model.train.data.boundaries import JoinedTokens
from model.train.data.bpe import SPECIAL_TOKENS
from model.train.data.corpus import CorpusError, Record, read_stream

INDEX = "index.json"
_BATCH = 256


def write_shards(
    streams: dict[str, tuple[Path, ...]],
    tokenizer_path: Path,
    folder: Path,
    progress: Callable[[int], object] = lambda num_bytes: None,
    split_share: float = 0.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Tokenise every stream into `folder`, and return the index. An interrupted run leaves no index.

    Args:
        streams: corpus files by stream name.
        tokenizer_path: path of tokenizer.json, which is copied to `folder`.
        folder: folder of the shards, created if it is missing.
        progress: called with the compressed size of each finished stream.
        split_share: share of the joined tokens to split; see boundaries.py.
        seed: seed for the choice of the tokens to split; each stream starts with this seed.

    Raises:
        CorpusError: the vocabulary is too large or lacks BOS or EOS, the share is not from 0 to 1, or a record cannot
            be read.
    """
    tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_path))
    if tokenizer.get_vocab_size() > np.iinfo(np.uint16).max + 1:
        raise CorpusError(f"{tokenizer_path} has more than 65,536 entries; ids are stored in two bytes")
    if lacking := [token for token in SPECIAL_TOKENS[:2] if tokenizer.token_to_id(token) is None]:
        raise CorpusError(f"{tokenizer_path} lacks {lacking[0]}, which stands between records; use another tokenizer")
    tokenizer.encode_special_tokens = True  # encode a special token that is spelled in a text as plain text
    if not 0 <= split_share <= 1:
        raise CorpusError(f"the share of tokens to split must be from 0 to 1, not {split_share}")
    joined = JoinedTokens(tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    if tokenizer_path.resolve() != (folder / "tokenizer.json").resolve():
        shutil.copyfile(tokenizer_path, folder / "tokenizer.json")
    index: dict[str, Any] = {"tokenizer_sha256": hashlib.sha256(tokenizer_path.read_bytes()).hexdigest(), "streams": {}}
    if split_share:
        index |= {"split_share": split_share, "split_seed": seed}
    for stream, paths in streams.items():
        split = _splitter(joined, split_share, seed)
        with (folder / f"{stream}.bin").open("wb") as shard:
            index["streams"][stream] = _write_stream(shard, read_stream(paths), tokenizer, split)
        progress(sum(path.stat().st_size for path in paths))
    (folder / INDEX).write_text(json.dumps(index, indent=1, ensure_ascii=False))
    return index


def _splitter(joined: JoinedTokens, share: float, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    generator = np.random.default_rng(seed)
    return lambda ids: joined.split(ids, share, generator)


def _write_stream(
    shard: Any,
    records: Iterator[Record],
    tokenizer: tokenizers.Tokenizer,
    split: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Any]:
    bos, eos = (tokenizer.token_to_id(token) for token in SPECIAL_TOKENS[:2])
    counts = {"tokens": 0, "bytes": 0, "records": 0}
    sources: dict[tuple[str, str], int] = collections.Counter()
    while batch := list(islice(records, _BATCH)):
        encoded = tokenizer.encode_batch_fast([record.text for record in batch], add_special_tokens=False)
        ids = np.concatenate([split(np.array([bos, *encoding.ids, eos], np.uint16)) for encoding in encoded])
        shard.write(ids.tobytes())
        counts["tokens"] += ids.size
        counts["records"] += len(batch)
        for record in batch:
            counts["bytes"] += len(record.text.encode())
            sources[record.source, record.license] += len(record.text.encode())
    listing = [{"source": s, "license": lic, "bytes": n} for (s, lic), n in sorted(sources.items())]
    return counts | {"sources": listing}
