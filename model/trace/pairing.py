"""Pair the documents of two decision tables, and compare each pair."""

from collections.abc import Sequence

from model.trace.comparison import CompareError, Comparison, compare
from model.trace.comparison_report import span
from model.trace.imports.table_rows import Document


def compare_documents(first: Sequence[Document], second: Sequence[Document]) -> list[Comparison]:
    """Return a comparison per document; documents are paired by name, or by order if one of them has no name.

    Raises:
        CompareError: the tables hold other documents, a pair has other tokens, or one side numbers its experts
            otherwise; the message names the document.
    """
    comparisons = []
    for number, (one, other) in enumerate(_paired(first, second), 1):
        name = f"document {one.name or number}"
        _check_tokens(one, other, name)
        try:
            comparison = compare(one.trace, other.trace)
        except CompareError as error:
            raise CompareError(f"{name}: {error}") from None
        if comparison.renumbered:
            raise CompareError(
                f"{name}: both sides number the experts of {span(comparison.renumbered)} differently (physical ids "
                "of redundant experts?); record logical ids"
            )
        comparisons.append(comparison)
    return comparisons


def _paired(first: Sequence[Document], second: Sequence[Document]) -> list[tuple[Document, Document]]:
    if all(document.name for document in (*first, *second)):
        by_name = {document.name: document for document in second}
        names = {document.name for document in first}
        if missing := sorted(names ^ by_name.keys()):
            raise CompareError(f"only one of the tables has the document {missing[0]} ({len(missing):,} in all)")
        return [(document, by_name[document.name]) for document in first]
    if len(first) != len(second):
        raise CompareError(f"the tables hold {len(first):,} and {len(second):,} documents")
    return list(zip(first, second, strict=True))


def _check_tokens(one: Document, other: Document, name: str) -> None:
    ids = [[token.id for token in document.trace.tokens] for document in (one, other)]
    if len(ids[0]) != len(ids[1]):
        raise CompareError(f"{name} has {len(ids[0]):,} tokens on one side and {len(ids[1]):,} on the other")
    for place, (first, second) in enumerate(zip(*ids, strict=True)):
        if first != second and -1 not in (first, second):
            raise CompareError(f"{name} has other tokens from token {place} on ({first} and {second})")
