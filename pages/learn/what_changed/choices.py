"""The widgets of the What changed page: lists of origins, verdicts and subjects."""

from collections.abc import Mapping

import streamlit as st

from pages.learn.what_changed.claims import ALL, claims, texts


def origin() -> str:
    """Draw a list of origins and return the chosen one; `ALL` shows claims of any origin."""
    names = {key: each["short"] for key, each in texts()["origins"].items()}
    meaning = "Whose claims: the article's, or those about one step of the models."
    return _choose("Claims", "claims", list(names), meaning, names)


def verdict() -> str:
    """Draw a list of verdicts and return the chosen one; `ALL` shows claims with any verdict."""
    return _choose("Verdict", "verdict", list(texts()["verdicts"]), "Judged by the reports, configurations and code.")


def subject() -> str:
    """Draw a list of subjects and return the chosen one; `ALL` shows claims on any subject."""
    subjects = list(dict.fromkeys(claim.subject for claim in claims()))
    return _choose("Subject", "subject", subjects, "The part of the model or its training.")


def _choose(label: str, key: str, options: list[str], meaning: str, names: Mapping[str, str] | None = None) -> str:
    """Draw a list of `options` and `ALL`, and return the chosen one; `names` are their names on the page."""

    def name_of(option: str) -> str:
        return option if names is None or option == ALL else names[option]

    chosen = st.segmented_control(
        label, [ALL, *options], default=ALL, required=True, key=key, bind="query-params", help=meaning,
        format_func=name_of,
    )  # fmt: skip
    return chosen or ALL
