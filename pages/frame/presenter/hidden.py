"""Controls that a link hides: `hide=sidebar,prompt` in the URL, for hand-outs.

A hidden control keeps its value and goes on to act; a visitor who removes `hide` from the URL sees it again.
"""

import streamlit as st

from pages.common import controls, text

KEY = "hide"  # in the URL, and of the state: the names of the hidden controls
_UNKNOWN = "hide-unknown"  # in the state: the names of a link that are no controls
_WIDGETS = ("stSelectbox", "stNumberInput", "stButtonGroup", "stCheckbox", "stSlider", "stTextInput")
_CHOICES = ", ".join(f'[data-testid="{name}"]' for name in _WIDGETS)
_MAIN = '[data-testid="stMain"]'
# Name -> CSS selector of what it hides.
HIDES = {
    "sidebar": ':is([data-testid="stSidebar"], [data-testid="stExpandSidebarButton"])',
    "prompt": f"{_MAIN} :is(.st-key-prompt, .st-key-prompt-size, .st-key-generate, .st-key-stop)",
    "examples": f"{_MAIN} .st-key-examples",
    "settings": f"{_MAIN} .st-key-settings",
    "choices": f"{_MAIN} :is({_CHOICES}):not(.st-key-settings *)",
    "tabs": f'{_MAIN} [role="tablist"]',
    "numbers": f'{_MAIN} :is([data-testid="stMetric"], [data-testid="stExpander"])',
    "lens-tools": "",  # by the variable below: CSS of the page does not reach into the lens
}
STYLE = "<style>{selectors} {{ display: none !important; }} {lens}</style>"


def take(address: str | None) -> None:
    """Set the hidden controls from the value of `hide` in the URL of a page that is opened; None keeps them."""
    names = list(dict.fromkeys(name.strip().lower() for name in (address or "").split(",") if name.strip()))
    st.session_state[_UNKNOWN] = tuple(name for name in names if name not in HIDES)
    if address is not None:
        st.session_state[KEY] = tuple(name for name in names if name in HIDES)


def apply() -> None:
    """Hide the controls, write their names to the URL, and name those of the link that do not exist."""
    names, unknown = st.session_state.get(KEY, ()), st.session_state.get(_UNKNOWN, ())
    controls.write_address(KEY, ",".join(names) or None)
    if unknown:
        what = ", ".join(text.as_code(name[:40]) for name in unknown[:5])
        st.warning(f"The link hides {what}, which is no control. It can hide {', '.join(HIDES)}.")
    if names:
        selectors = ", ".join(HIDES[name] for name in names if HIDES[name]) or ".nothing"
        lens = ":root { --lens-tools: none; }" if "lens-tools" in names else ""
        st.html(STYLE.format(selectors=selectors, lens=lens))
