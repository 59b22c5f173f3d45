"""Safety labels: content that a user may want to know about before training on a text. Labels drop no text.

Labels are found by patterns: a made-up address gets the same label as a real address. Content that no pattern matches
gets no label.
"""

import dataclasses
import re


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """A kind of content; a text gets the label if the pattern matches at least `needed` times."""

    name: str
    reason: str
    pattern: re.Pattern[str]
    needed: int = 1
    hints: tuple[str, ...] = ("",)  # a text without any of these cannot match; searching for them is faster


_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
LABELS = (
    Label(
        "e-mail address",
        "It may be somebody's address.",
        re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{2,63})+\b"),
        hints=("@",),
    ),
    Label(
        "phone-like number",
        "It may be somebody's number.",
        re.compile(r"\d{3}(?<![\w.,/]\d{3})[) -]{1,2}\d{3}[ -]\d{3,4}(?![\w/-]|[.,]\d)"),
    ),
    Label(
        "IP address",
        "It may be the address of a machine.",
        re.compile(rf"[1-9](?<![\w.].)(?!27\.)\d{{0,2}}(?:\.{_OCTET}){{3}}(?![\w.]*\d)"),
    ),
    Label(
        "private key",
        "Whoever reads it can sign or decrypt.",
        re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
        hints=("PRIVATE KEY",),
    ),
    Label(
        "access token",
        "Whoever reads it may get access.",
        re.compile(
            r"(?<!\w)(?:ghp_[A-Za-z0-9]{30,}|github_pat_\w{30,}|AKIA[0-9A-Z]{16}|sk-[A-Za-z0-9]{20,}|xox[abprs]-[\w-]{10,}"
            r"|hf_[A-Za-z0-9]{30,}|eyJ[\w-]{10,999}\.eyJ[\w-]{10,999}\.[\w-]{10,})"
        ),
        hints=("ghp_", "github_pat_", "AKIA", "sk-", "xox", "hf_", "eyJ"),
    ),
    Label(
        "weapons and self-harm",
        "Three or more of a few plain English words; literature and textbooks have them too.",
        re.compile(r"\b(?:suicid\w*|overdos\w*|explosives?|firearms?|ammunition|narcotics?|self-harm)\b", re.I),
        needed=3,
        hints=("uicid", "verdos", "xplosive", "irearm", "mmunition", "arcotic", "elf-harm"),
    ),
)


def labels(text: str) -> dict[str, int]:
    """Return the labels of a text, each with its number of matches."""
    counts: dict[str, int] = {}
    for label in LABELS:
        if any(hint in text for hint in label.hints):
            count = sum(1 for _ in label.pattern.finditer(text))
            if count >= label.needed:
                counts[label.name] = count
    return counts
