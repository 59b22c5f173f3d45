"""The menu: its sections, their pages, and where each page's script lies."""

from pathlib import Path

PAGES = Path(__file__).parent.parent
MENU = {
    "Observe": ("explore", "routing", "expert_load", "attention", "sparse_attention", "tokens"),
    "Intervene": ("counterfactual", "compare"),
    "Audit": ("doctor", "imports"),
    "Learn": ("architecture", "data", "training", "collapse", "what_changed"),
}
FIRST = "explore"  # opens without a path in the address


def page_path(name: str) -> Path:
    """Return the script of a page.

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
