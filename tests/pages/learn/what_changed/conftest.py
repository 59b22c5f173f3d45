"""The claims that a page shows."""

from streamlit.testing.v1 import AppTest

from pages.learn.what_changed import claims


def shown(app: AppTest) -> list[str]:
    """The claims on the page, in bold there."""
    assert not app.exception
    bold = {f"**{claim.claim}**": claim.claim for claim in claims.claims()}
    return [bold[each.value] for each in app.markdown if each.value in bold]
