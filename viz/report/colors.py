"""The colours of the report's figures as CSS variables, in both themes.

A figure is drawn once and names variables; the reader's theme gives them their values. Variables: `page`, `ink`,
`muted`, `grid` and `shade` of the theme, `e0`, `e1`, ... of the experts, `g0`, ... of the groups' hues, and
`load-0` to `load-32` of load ratios from 1/4 to 4.
"""

from collections.abc import Iterator

import numpy as np

from viz.layout import Layout
from viz.load import LOG_LIMIT, clipped_log
from viz.report.images import Scales
from viz.theme import DARK, GROUP_HUES, LIGHT, Theme, blend, expert_colors, group_hue

LOAD_STEPS = 32


def css(layout: Layout | None) -> str:
    """Return the style rules that give the variables their values; paper is always light.

    Without a layout there are no colours of experts and groups.
    The images of a map have the class `light` or `dark`; the other theme's is not shown.
    """
    dark = f":root {{ {' '.join(_variables(layout, DARK))} }}\nimage.light {{ display: none; }}\n"
    return (
        f":root {{ color-scheme: light dark; {' '.join(_variables(layout, LIGHT))} }}\n"
        "image.dark { display: none; }\n"
        f"@media screen and (prefers-color-scheme: dark) {{\n{dark}image.dark {{ display: inline; }}\n}}\n"
        "@media print { :root { color-scheme: light; } }\n"
    )


def _variables(layout: Layout | None, theme: Theme) -> Iterator[str]:
    for name, color in {
        "page": theme.background, "ink": theme.ink, "muted": theme.muted, "grid": theme.grid, "shade": theme.shade,
    }.items():  # fmt: skip
        yield f"--{name}: {color};"
    for expert, color in enumerate(expert_colors(layout, theme) if layout else ()):
        yield f"--e{expert}: {color};"
    for group in range(min(layout.num_groups, len(GROUP_HUES)) if layout else 0):
        yield f"--g{group}: {group_hue(group)};"
    for step in range(LOAD_STEPS + 1):
        yield f"--load-{step}: {blend(theme.load, step / LOAD_STEPS)};"


def of_expert(expert: int) -> str:
    """Return the colour of an expert."""
    return f"var(--e{expert})"


def of_group(group: int) -> str:
    """Return the hue of a group; colours repeat after eight groups."""
    return f"var(--g{group % len(GROUP_HUES)})"


def of_load(ratio: float) -> str:
    """Return the colour of a load ratio."""
    share = (float(clipped_log(np.array(ratio))) + LOG_LIMIT) / (2 * LOG_LIMIT)
    return f"var(--load-{round(LOAD_STEPS * share)})"


def grey_scales() -> Scales:
    """Return the scale of affinity in both themes: the background, mixed with up to half ink, as in the lens."""
    light, dark = ((theme.background, blend((theme.background, theme.ink), 0.5)) for theme in (LIGHT, DARK))
    return light, dark
