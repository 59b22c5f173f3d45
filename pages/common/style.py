"""Styles that Streamlit's theme has no setting for: narrower margins, less prominent tools on figures."""

import html

import streamlit as st

CSS = """
<style>
[data-testid="stMainBlockContainer"] { padding: 2.6rem 2rem 3rem; }
body:has([data-testid="stExpandSidebarButton"]) [data-testid="stMainBlockContainer"] { padding-top: 4.2rem; }
[data-testid="stMetricValue"] { font-size: 1.5rem; }
[data-testid="stCaptionContainer"] { opacity: 0.75; }
:is([data-testid="stMarkdownContainer"], [data-testid="stCaptionContainer"]) code {
  font-size: max(12px * var(--text-scale, 1), 0.85em) !important; }
[data-testid="stCaptionContainer"] code { color: inherit !important; }
[data-testid="stSliderThumbValue"], [data-testid="stSliderThumbValue"] * { color: inherit !important; }
[data-testid="stMain"] h2 { font-size: 1.1rem; padding: 0.6rem 0 0; }
[data-testid="stSidebarNavLink"]:focus-visible, [data-testid="stNavSectionHeader"]:focus-visible,
[data-testid="stPageLink-NavLink"]:focus-visible,
[data-testid="stTooltipHoverTarget"] button:focus-visible {
  outline: 2px solid currentColor !important; outline-offset: -2px; }
[data-testid="stMain"]:focus-visible { outline: 2px solid currentColor; outline-offset: -2px; }
h1.page-title { font-size: 0.9rem !important; font-weight: 600; line-height: 1.3rem; height: 1.3rem;
  padding: 0 !important; margin: -1.9rem 0 -0.5rem !important; }
body:has([data-testid="stExpandSidebarButton"]) h1.page-title { margin-top: -0.4rem !important; }
[data-testid="stMain"] [data-testid="stVerticalBlock"] { gap: 0.7rem; }
[data-testid="stSidebarNavLink"] { padding-top: 0.05rem; padding-bottom: 0.05rem; line-height: 1.5; }
[data-testid="stSidebarNavItems"] li { margin: 0; }
[data-testid="stNavSectionHeader"] { padding: 0.35rem 0 0; margin: 0; }
[data-testid="stPlotlyChart"] .g-gtitle { display: none; }
[data-testid="stElementContainer"]:has([data-testid="stPlotlyChart"]) { margin-bottom: -18px; }
[data-testid="stExpander"] { position: relative; } /* or the chart above would cover its upper border */
.st-key-live [data-stale="true"] { opacity: 1 !important; transition: none !important; }
[data-testid="stLayoutWrapper"]:has(> .st-key-ticks) { display: none; }
[role="radio"][aria-checked="true"], [role="tab"][aria-selected="true"] { color: inherit !important; }
.st-key-how-A, .st-key-how-B { min-height: 8.4rem; }
.st-key-status { min-height: 2.6rem; justify-content: center; }
[data-testid="stLayoutWrapper"]:has(> :is(.st-key-typed-script, .st-key-glossary-words, .st-key-roles-script)) {
  display: none; }
.st-key-prompt-size [data-stale="true"] { opacity: 1 !important; transition: none !important; }
[data-testid="stTextArea"] textarea { unicode-bidi: plaintext; }
.st-key-examples button { min-height: 1.6rem; padding: 0.1rem 0.5rem; }
.st-key-token-row button { min-height: 1.9rem; padding: 0.1rem 0.2rem; }
.st-key-token-row code { font-size: calc(14px * var(--text-scale, 1)); padding: 0; color: inherit; background: none; }
.st-key-token-row [class*="-generated"] code { text-decoration: underline; text-underline-offset: 4px; }
.st-key-token-row [class*="-special"] code { border: 1px solid currentColor; font-variant: small-caps; padding: 0 3px; }
.st-key-qr [data-testid="stElementContainer"] { align-items: center; }
.st-key-qr img { width: min(100%, 100vh - 15rem) !important; height: auto !important; display: block; margin: auto; }
[role="dialog"]:has(.st-key-qr) code { font-size: 1.2rem !important; }
@media (max-width: 640px) { .modebar-container { display: none; } } /* it would cover what a chart says above it */
@media (max-width: 1100px) { [data-testid="stMainBlockContainer"] { padding: 2.6rem 1rem 3rem; } }
@media (prefers-reduced-motion: reduce) {
  *, *::before, *::after { animation-duration: 1ms !important; animation-iteration-count: 1 !important;
    transition-duration: 1ms !important; scroll-behavior: auto !important; } /* some scripts wait for their ends */
  [data-testid="stPlotlyChart"] .updatemenu-container { display: none; } /* a button that plays; its slider stays */
}
</style>
"""
# Streamlit treats the folder `pages` as its older kind of pages until the first visitor's script has named ours.
# A first visit by a link to a page therefore shows "Page not found" over the right page. This script closes that
# notice.
CLOSE_FIRST_NOTICE = """
<script>
const end = Date.now() + 5000;
const timer = setInterval(() => {
  const open = [...document.querySelectorAll('[role=dialog]')];
  const notice = open.find(one => one.textContent.includes('Page not found'));
  notice?.querySelector('button')?.click();
  if (notice || Date.now() > end) clearInterval(timer);
}, 50);
</script>
"""
_MARK = """<g fill="none" stroke="#7f8893" stroke-width="2.4"><circle cx="12" cy="12" r="8"/><path d="M18 18l7 7"/></g>
<rect x="7" y="9" width="2.6" height="7" fill="#0072B2"/><rect x="10.7" y="7" width="2.6" height="9" fill="#E69F00"/>
<rect x="14.4" y="11" width="2.6" height="5" fill="#009E73"/>"""
ICON = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="2 2 25 25">{_MARK}</svg>'
# The name in a grey that is legible on both backgrounds.
LOGO = f"""<svg xmlns="http://www.w3.org/2000/svg" width="150" height="28" viewBox="0 0 150 28">{_MARK}
<text x="34" y="20" font-family="sans-serif" font-weight="600" font-size="18" fill="#7f8893">MoE Loupe</text></svg>"""


@st.cache_resource(show_spinner=False)
def _first_visit() -> list[bool]:
    """Return a list that holds True until the server's first session removes it."""
    return [True]


def title(name: str) -> None:
    """Write a page's name as its heading, in the empty band above the page."""
    st.html(f'<h1 class="page-title">{html.escape(name)}</h1>')


def apply() -> None:
    """Add styles and logo to the page; the server's first session also gets a script that closes a wrong notice."""
    st.html(CSS)
    # Sent in every script run of that session: the run of a link may end the first one before the browser has it.
    if st.session_state.setdefault("first-visit", bool(_first_visit() and _first_visit().pop())):
        st.html(CLOSE_FIRST_NOTICE, unsafe_allow_javascript=True)
    st.logo(LOGO)
