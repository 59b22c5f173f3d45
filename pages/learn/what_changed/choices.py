"""The widgets of the What changed page: a list of verdicts and a list of subjects."""

import streamlit as st

from pages.learn.what_changed.claims import ALL, claims, texts


def verdict() -> str:
    """Draw a list of verdicts and return the chosen one; `ALL` shows claims with any verdict."""
    return _choose("Verdict", "verdict", list(texts()["verdicts"]), "Judged by the reports, configurations and code.")


def subject() -> str:
    """Draw a list of subjects and return the chosen one; `ALL` shows claims on any subject."""
    subjects = list(dict.fromkeys(claim.subject for claim in claims()))
    return _choose("Subject", "subject", subjects, "The part of the model or its training.")


def _choose(label: str, key: str, options: list[str], meaning: str) -> str:
    chosen = st.segmented_control(
        label, [ALL, *options], default=ALL, required=True, key=key, bind="query-params", help=meaning
    )
    return chosen or ALL
