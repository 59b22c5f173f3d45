"""Names, types and meaning of the tables in the folder of a sweep.

A sweep routes the documents of a corpus and stores sums over documents. Each sum adds up over the shards of a corpus,
and the sums suffice for the errors over documents of `model/trace/documents.py`.

Letters of the sums, for a document d: c_d counts the selections of an expert in d, a_d the tokens of d that select
both experts of a pair, and n_d the selections in d, which is its tokens times top-k. In a row of one token class or of
one bucket of positions, c_d and n_d count the tokens of that class or bucket only.

A table or a column that a source cannot give is absent, and `capture` in the manifest lists what is there.
"""

import numpy as np
import pyarrow as pa

FORMAT, VERSION = "moe-loupe sweep", 1
MANIFEST = "manifest.json"
LABELS = ("domain", "language", "source")

# "all" is every counted token. Each token belongs to exactly one of the others: the first one that fits.
TOKEN_CLASSES = (
    "all",
    "special",  # a special token, such as the beginning of the sequence
    "first",  # one of the first 16 positions of the document
    "keyword",  # a word that Python, C, Go, Rust or JavaScript reserve, in documents of the domain "code"
    "space",  # white space only
    "digit",  # digits only, perhaps after a space
    "punctuation",  # punctuation and signs only, perhaps after a space
    "other_script",  # letters of another script than Latin, or a part of a character
    "word_start",  # Latin letters at the start of a word
    "word_inside",  # Latin letters inside a word
)
NUM_FIRST = 16  # positions of the class "first"

# A margin is the lowest selected biased score minus the best unselected one. Bin i holds the margins from edge i to
# edge i + 1; the first and the last bin also hold what lies outside.
MARGIN_BINS = 16
MARGIN_EDGES = 10.0 ** np.linspace(-8, 0, MARGIN_BINS + 1)
MARGIN_COLUMNS = tuple(f"m{index:02d}" for index in range(MARGIN_BINS))

_LABELS = [(label, pa.string()) for label in LABELS]  # null: the document has no such label
_CELL = [("layer", pa.int16()), ("expert", pa.int16())]
_WHOLE, _REAL = pa.int64(), pa.float64()
_NORMS = [(name, _REAL) for name in ("norm_sum", "weighted_norm_sum", "weighted_norm2_sum")]
_MARGINS = [(name, _WHOLE) for name in MARGIN_COLUMNS]


def _whole(*names: str) -> list[tuple[str, pa.DataType]]:
    return [(name, _WHOLE) for name in names]


# Table -> its columns. `layer` is the number of the layer in the model; binary arrays are little endian.
TABLES: dict[str, pa.Schema] = {
    # A row per document, in the order of the corpus.
    "documents": pa.schema(
        [
            ("doc_id", pa.string()),  # 32 hexadecimal digits: the start of the SHA-256 of source and text
            *_LABELS,
            ("tokens", pa.int32()),  # counted tokens; those that only give a window its context are not counted
            ("windows", pa.int32()),
            ("truncated", pa.bool_()),  # whether the document needed more than one window
            ("counts", pa.binary()),  # uint16 or uint32 [layer, expert]
            ("bits", _REAL),  # sum of -log2 of the probability of each counted token that has one before it
            ("bytes", _WHOLE),  # UTF-8 bytes of those tokens
            ("ids", pa.binary()),  # uint8 or uint16 [token, layer, rank], sorted by id
            ("margins", pa.binary()),  # float16 [token, layer]
            ("token_ids", pa.binary()),  # uint32 [token]
        ]
    ),
    # A row per combination of labels and token class.
    "strata": pa.schema(
        [
            ("stratum", pa.int32()),
            *_LABELS,
            ("token_class", pa.string()),
            *_whole("docs", "sum_n", "sum_n2"),  # documents with such a token; sum of n_d; sum of n_d^2
        ]
    ),
    # A row per stratum, token class, layer and expert with c > 0.
    "counts": pa.schema(
        [
            ("stratum", pa.int32()),
            ("token_class", pa.string()),
            *_CELL,
            *_whole("docs_hit", "c", "c2", "cn"),  # documents with c_d > 0; sums of c_d, c_d^2 and c_d n_d
            ("weight_sum", _REAL),  # sum of the gate weights g
            *_NORMS,  # sums of |f|, g |f| and (g |f|)^2; f is the output of the expert before its gate weight
            *_MARGINS,  # selections by margin
        ]
    ),
    # Per expert the tokens that selected it most.
    "tokens": pa.schema(
        [
            *_CELL,
            ("token_id", pa.int32()),
            ("text", pa.string()),
            *_whole("c", "docs", "total"),  # selections by this token; documents with one; the token in the corpus
            ("weight_sum", _REAL),
        ]
    ),
    # Bucket 0 is position 0 of the document, 1 is position 1, 2 is 2 to 3, 3 is 4 to 7, and on in powers of two.
    "positions": pa.schema([*_CELL, ("bucket", pa.int16()), *_whole("c", "c2", "cn", "n", "n2")]),
    # A row per pair i < j: sums over documents of a_d, a_d^2, a_d c_d,i, a_d c_d,j, a_d n_d and c_d,i c_d,j.
    "pairs": pa.schema(
        [
            ("layer", pa.int16()),
            ("i", pa.int16()),
            ("j", pa.int16()),
            *_whole("a", "a2", "a_ci", "a_cj", "a_n", "ci_cj"),
        ]
    ),
    # A row per expert i of a MoE layer and expert j of the next one.
    "transitions": pa.schema(
        [
            ("layer", pa.int16()),
            ("i", pa.int16()),
            ("j", pa.int16()),
            *_whole("a", "a2", "a_ci", "a_cj", "a_n"),
        ]
    ),
    "examples": pa.schema(
        [
            *_CELL,
            ("weight", _REAL),
            ("doc_id", pa.string()),
            ("position", pa.int32()),
            ("before", pa.string()),
            ("token", pa.string()),
            ("after", pa.string()),
        ]
    ),
}
REQUIRED = ("documents", "strata", "counts")


def bucket_of(positions: np.ndarray) -> np.ndarray:
    """Return the bucket of each position in a document: 0, 1, 2 to 3, 4 to 7, and on.

    >>> bucket_of(np.array([0, 1, 2, 3, 4, 7, 8])).tolist()
    [0, 1, 2, 2, 3, 3, 4]
    """
    return np.frexp(positions.astype(np.float64))[1]


def margin_bin(margins: np.ndarray) -> np.ndarray:
    """Return the margin bin of each margin, 0 to 15.

    >>> margin_bin(np.array([-1.0, 1e-9, 2e-8, 0.5, np.inf])).tolist()
    [0, 0, 0, 15, 15]
    """
    return np.searchsorted(MARGIN_EDGES[1:-1], margins, side="right")
