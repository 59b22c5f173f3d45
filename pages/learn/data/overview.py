"""The overview above the tabs of the Data page: the report in a few sentences, and kept and dropped bytes by rule."""

from typing import Any

from pages.common import controls, session
from pages.learn.data import tables
from pages.learn.data.reports import TRAINING
from viz.curation import kept_and_dropped, size


def summary(name: str, report: dict[str, Any]) -> str:
    """Return a few sentences on a report."""
    from model.train.data.curation.funnel import share_dropped

    before, after, share = report["in"], report["out"], share_dropped(report)
    if name == TRAINING:
        return (
            f"**{size(before['bytes'])} in {before['records']:,} texts** of {len(report['streams'])} streams and "
            f"{len(report['sources'])} sources came in; **{share:.2%} of the texts** were dropped and "
            f"{size(after['bytes'])} kept. The corpus had been cleaned before, so little was left to drop. `mini-v3` "
            "was trained on text from the same corpus, before these steps existed."
        )
    return (
        f"**{share:.1%} of {before['records']:,} texts** (all damaged, or no text at all) were dropped; "
        f"{after['records']:,} were missed. The limits were set on these same texts, so the rules will find less of "
        "other damage. No rule finds words in a wrong order."
    )


def figure(report: dict[str, Any]) -> None:
    """Show the main figure: kept and dropped bytes by step and rule."""
    rows = tables.by_rule(report)
    how_to_read = (
        "From top to bottom, in the order in which texts pass the rules. Left: the bytes that went on. Right: the "
        "bytes that were dropped, on a logarithmic scale, and the number of texts. The first rule that a text breaks "
        "drops it. Measured."
    )
    table = rows.rename(columns={"kept": "bytes kept", "dropped": "bytes dropped", "records": "records dropped"})
    controls.chart(kept_and_dropped(rows, session.theme()), "curation", table, how_to_read)
