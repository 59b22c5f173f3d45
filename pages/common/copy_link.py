"""A button that copies the address, which always mirrors the view."""

from streamlit.components.v2 import component

HTML = '<button type="button">Copy link to this view</button><output aria-live="polite"></output>'
CSS = """
button { font: inherit; color: inherit; background: none; border: 1px solid var(--st-border-color); width: 100%;
  border-radius: var(--st-base-radius); padding: .35em .8em; cursor: pointer; min-height: 2.4em; }
button:hover { border-color: var(--st-text-color); }
button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 1px; }
output { display: block; font-size: 12px; min-height: 1.4em; overflow-wrap: anywhere; user-select: all; }
"""
JS = """
export default function ({ parentElement }) {
  const button = parentElement.querySelector('button'), output = parentElement.querySelector('output');
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


def button() -> None:
    """Mount the button."""
    _COMPONENT(key="copy-link", height="content")
