"""A button that copies the URL, and the script that all pages need.

Every page mounts this component. Its script also keeps one entry per page in the browser's history, and closes the menu
on a narrow screen after a choice.
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

// The address without the key that lets a reload find this tab's run.
function link() {
  const address = new URL(location.href);
  address.searchParams.delete('session');
  return address.href;
}

export default function ({ data, parentElement }) {
  const button = parentElement.querySelector('button'), output = parentElement.querySelector('output');
  button.textContent = data.label;
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(link());
      output.textContent = 'Copied.';
    } catch {
      output.textContent = link();  // no clipboard without a secure address: the visitor can select the text
    }
  };
}
"""
_COMPONENT = component("moe_loupe_copy_link", html=HTML, css=CSS, js=JS)


def button(whole: bool) -> None:
    """Mount the button. `whole`: the link restores the run too; otherwise the label says that the link does not."""
    label = "Copy link to this view" if whole else "Copy link without this run"
    _COMPONENT(key="copy-link", data={"label": label}, height="content")
