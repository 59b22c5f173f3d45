"""The frame: page settings, menu and sidebar. Everything else lies in `pages/`."""

from pathlib import Path

import streamlit as st

from pages.common import controls, limits, models, prompt, sidebar, style

MENU = {
    "Observe": ["explore", "routing", "expert_load", "attention", "sparse_attention", "tokens"],
    "Intervene": ["counterfactual", "compare"],
    "Audit": ["doctor", "imports"],
    "Learn": ["architecture", "data", "training", "collapse", "what_changed"],
}
HERE = Path(__file__).parent / "pages"

st.set_page_config(page_title="MoE Loupe", page_icon=style.ICON, layout="wide", initial_sidebar_state="expanded")
if limits.REFUSED:
    st.error("  \n".join(limits.REFUSED))
    st.stop()
sections = {
    section: [
        st.Page(path, title=name.replace("_", " ").capitalize(), url_path=name, default=name == "explore")
        for name in names
        if (path := HERE / section.lower() / f"{name}.py").exists()
    ]
    for section, names in MENU.items()
}
page = st.navigation(sections, position="sidebar", expanded=True)
style.apply()
controls.keep()
sidebar.show()
if page.url_path:
    prompt.restore_from_link()
    page.run()
    prompt.mirror()
else:  # the first page has no path; it holds the prompt itself
    page.run()
if models.available():
    models.warm(models.available()[models.chosen()])
