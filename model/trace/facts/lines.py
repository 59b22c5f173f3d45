"""Lines of the text of a run, numbered from 1."""

from model.trace.facts.sources import FactError
from model.trace.trace import Trace


def bytes_of_line(trace: Trace, line: int) -> tuple[int, int]:
    """Return the first byte of a line, and the first byte after the line and its line break.

    Raises:
        FactError: the text has no such line.
    """
    lines = trace.text.splitlines(keepends=True)
    if not (isinstance(line, int) and 1 <= line <= len(lines)):
        raise FactError(f"the text has no line {line}; its last one is {len(lines)}")
    first = sum(map(len, lines[: line - 1]))
    return first, first + len(lines[line - 1])


def tokens_of_line(trace: Trace, line: int) -> list[int]:
    """Return the numbers of the tokens with text that begin in a line.

    Raises:
        FactError: the text has no such line.
    """
    first, end = bytes_of_line(trace, line)
    return [
        number for number, token in enumerate(trace.tokens) if token.start < token.end and first <= token.start < end
    ]
