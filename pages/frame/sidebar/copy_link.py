"""Buttons that copy the URL and show it as a QR code, and the script that all pages need.

Every page mounts this component. Its script also keeps one entry per page in the browser's history, and closes the menu
on a narrow screen after a choice.
"""

import streamlit as st
from streamlit.components.v2 import component

from pages.common import kept
from pages.frame.sidebar import qr

HTML = """<div><button type="button" class="copy"></button>
<button type="button" class="code" title="Show the link as a QR code, for a projector">QR code</button></div>
<output aria-live="polite"></output>"""
CSS = """
div { display: flex; flex-wrap: wrap; gap: .5em; }
button { font: inherit; color: inherit; background: none; border: 1px solid var(--st-border-color);
  border-radius: var(--st-base-radius); padding: .35em .8em; cursor: pointer; min-height: 2.4em; }
.copy { flex: 1 1 8em; }
button:hover { border-color: var(--st-text-color); }
button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 1px; }
output { display: block; font-size: 12px; min-height: 1.4em; overflow-wrap: anywhere; user-select: all; }
"""
JS = """
// Streamlit adds a history entry for every change of the address; Back would step through all of them.
// Before it opens another page it also drops the values of the page's widgets from the address: Back needs them.
const push = history.pushState, LEAVING_MS = 300;
let before = null, changed = -LEAVING_MS;
history.pushState = function (state, title, address) {
  const now = performance.now(), leaving = now - changed < LEAVING_MS;
  if (new URL(address, location.href).pathname === location.pathname) {
    if (!leaving) before = location.href;
    changed = now;
    return history.replaceState.call(this, state, title, address);
  }
  if (leaving) history.replaceState.call(this, state, title, before);
  return push.call(this, state, title, address);
};

// On a narrow screen the menu lies over the page: a choice closes it.
document.addEventListener('click', (event) => {
  if (innerWidth > 768 || !event.target.closest?.('[data-testid="stSidebarNavLink"]')) return;
  setTimeout(() => document.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click(), 50);
});

// The address without what belongs to one visitor.
function link(secrets) {
  const address = new URL(location.href);
  for (const name of secrets) address.searchParams.delete(name);
  return address.href;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const [copy, code] = parentElement.querySelectorAll('button'), output = parentElement.querySelector('output');
  copy.textContent = data.label;
  code.onclick = () => setTriggerValue('qr', link(data.secrets));
  copy.onclick = async () => {
    try {
      await navigator.clipboard.writeText(link(data.secrets));
      output.textContent = 'Copied.';
    } catch {
      output.textContent = link(data.secrets);  // there is no clipboard without a secure address
    }
  };
}
"""
_COMPONENT = component("moe_loupe_copy_link", html=HTML, css=CSS, js=JS)
# Keys of the URL that are left out: of this tab after a reload, and of a room and its teacher. The link is to a view.
SECRETS = (kept.KEY, "room", "teach")


def button(whole: bool) -> None:
    """Mount the buttons. `whole`: the link restores the run too; otherwise the label says that the link does not."""
    label = "Copy link to this view" if whole else "Copy link without this run"
    data = {"label": label, "secrets": SECRETS}
    pressed = _COMPONENT(key="copy-link", data=data, height="content", on_qr_change=_nothing)
    if pressed.qr:
        dialog(pressed.qr)


def _nothing() -> None:
    """Streamlit returns a trigger's value only if the trigger has a callback."""


@st.dialog("QR code of this view", width="large")
def dialog(url: str) -> None:
    """Show the QR code of a URL, as large as the window allows, and the URL."""
    try:
        code = qr.image(url, 1600)
    except ValueError as error:
        st.warning(f"There is no QR code: {error}. Copy the link instead, or run a shorter text.")
    else:
        with st.container(key="qr"):
            st.html(code)
    st.code(url, language=None, wrap_lines=True)
