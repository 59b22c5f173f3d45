"""The menu: its sections, their pages, and the path of each page's script."""

from pathlib import Path

PAGES = Path(__file__).parent.parent
MENU = {
    "Observe": ("explore", "routing", "expert_load", "attention", "sparse_attention", "tokens", "atlas"),
    "Intervene": ("counterfactual", "compare"),
    "Audit": ("doctor", "imports"),
    "Learn": ("lessons", "architecture", "data", "training", "collapse", "what_changed", "glossary"),
}
FIRST = "explore"  # page that opens if the URL has no path


def page_path(name: str) -> Path:
    """Return the path of a page's script.

    Raises:
        KeyError: the menu has no page of this name.
    """
    for section, names in MENU.items():
        if name in names:
            return PAGES / section.lower() / name / "page.py"
    raise KeyError(name)


def title(name: str) -> str:
    """Return a page's title in the menu.

    >>> title("expert_load")
    'Expert load'
    """
    return name.replace("_", " ").capitalize()
