"""Roles and focus that Streamlit's own elements lack: screen readers and the keyboard need them."""

import streamlit as st

# The menu puts a `div` and a heading between `ul` and `li`, so no list has its items: each section becomes a group.
# A formula that is wider than its column scrolls, but takes no focus by itself.
SCRIPT = """
<script>
const repair = () => {
  const menu = document.querySelector('[data-testid=stSidebarNavItems]');
  for (const part of menu?.children ?? []) {
    part.setAttribute('role', 'group');
    part.setAttribute('aria-label', part.querySelector('[data-testid=stNavSectionHeader] p')?.textContent ?? '');
  }
  for (const part of menu ? [menu, ...menu.querySelectorAll('li')] : []) part.setAttribute('role', 'none');
  for (const formula of document.querySelectorAll('.katex-display')) {
    formula.tabIndex = formula.scrollWidth > formula.clientWidth ? 0 : -1;
  }
};
if (!window.loupeRepairs) {
  let timer = null;
  const later = () => { timer ??= setTimeout(() => { timer = null; repair(); }, 200); };
  window.loupeRepairs = new MutationObserver(later);
  window.loupeRepairs.observe(document.body, { subtree: true, childList: true });
  window.addEventListener('resize', later);
  repair();
}
</script>
"""


def repair() -> None:
    """Add the script that sets them, now and whenever the page changes."""
    with st.container(key="roles-script"):
        st.html(SCRIPT, unsafe_allow_javascript=True)
