"""Training of a vocabulary: byte-level BPE with DeepSeek-V3's pre-tokenizer.

The three splits are those of DeepSeek-V3's published tokenizer.json: up to three digits; runs of Han and Kana; words,
punctuation with its line breaks, and white space. Special tokens are spelled with a fullwidth bar and have the first
ids. `model/checkpoint/tokenizer.py` reads the resulting tokenizer.json.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 4.1.
"""

from collections.abc import Iterable

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from model.checkpoint.encoding import SPLITS

SPECIAL_TOKENS = (
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜▁pad▁｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
)


def pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Return the pre-tokenizer: the three splits in order, then the byte-level alphabet."""
    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in SPLITS]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train_vocabulary(texts: Iterable[str], vocab_size: int, show_progress: bool = True) -> tokenizers.Tokenizer:
    """Return a byte-level BPE tokenizer trained on texts.

    Args:
        texts: a sample of the training texts; the merges depend on it.
        vocab_size: number of entries, including the five special tokens and 256 bytes.
        show_progress: show the library's progress bar.

    Returns:
        A tokenizer, whose method `save` writes tokenizer.json.
    """
    smallest = 256 + len(SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise ValueError(f"a byte-level vocabulary needs at least {smallest} entries, not {vocab_size}")
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=show_progress,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
