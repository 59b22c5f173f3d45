"""A button that copies the address, which always mirrors the view; and the frame's own script.

Every page mounts it, so its script also keeps one history entry per page, and closes the menu of a narrow screen.
"""

from streamlit.components.v2 import component

HTML = '<button type="button"></button><output aria-live="polite"></output>'
CSS = """
button { font: inherit; color: inherit; background: none; border: 1px solid var(--st-border-color); width: 100%;
  border-radius: var(--st-base-radius); padding: .35em .8em; cursor: pointer; min-height: 2.4em; }
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

export default function ({ data, parentElement }) {
  const button = parentElement.querySelector('button'), output = parentElement.querySelector('output');
  button.textContent = data.label;
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      output.textContent = 'Copied.';
    } catch {
      output.textContent = location.href;  // no clipboard without a secure address: the visitor can select the text
    }
  };
}
"""
_COMPONENT = component("moe_loupe_copy_link", html=HTML, css=CSS, js=JS)


def button(whole: bool) -> None:
    """Mount the button; its label says whether the link leads to the `whole` view or leaves out the run."""
    label = "Copy link to this view" if whole else "Copy link without this run"
    _COMPONENT(key="copy-link", data={"label": label}, height="content")
