"""Prints to the terminal. All text passes `echo`, which escapes control characters in names that come from files."""

import contextlib
import re
import sys

import click

# Control characters except tab and line feed, line separators, marks that reorder text, halves of surrogate pairs.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str) -> str:
    r"""Return text with control characters in the escaped form of JSON.

    >>> escaped("\x1b[31mred\n")
    '\\u001b[31mred\n'
    """
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def echo(text: str, err: bool = False) -> None:
    """Print text to stdout, or to stderr if `err` is set, with control characters escaped."""
    click.echo(escaped(text), err=err)


def drop_broken_streams() -> None:
    """Close stdout and stderr if they cannot be written, because Python would write to them again at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError):
                stream.close()
