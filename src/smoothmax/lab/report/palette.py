"""Colours of the pictures and of the page around them, for light and for dark.

Pictures are drawn with a stand-in colour for each role; `svg.inline` puts the CSS variable of the role in
its place, so that one picture follows the reader's choice. The five series colours differ by at least
0.15 in OKLab for normal sight and under simulated deuteranopia, protanopia and tritanopia, and by a contrast
of 3 from the page; lines differ in marker and dash as well.
"""

#: Role: (light, dark).
COLOURS = {
    "page": ("#ffffff", "#14171c"),
    "box": ("#f3f6fa", "#1d222a"),
    "ink": ("#1a1d23", "#e8eaee"),
    "soft": ("#535a66", "#a8afbb"),
    "line": ("#d5dae2", "#363d48"),
    "band": ("#e3ecd9", "#2b3a26"),
    "link": ("#0b57b0", "#7cb8ff"),
    "flat": ("#0b57b0", "#7cb8ff"),
    "fine": ("#1b6a4a", "#6fd6a4"),
    "sharp": ("#a1341a", "#ff9f7a"),
    "series-1": ("#4f86d2", "#5cbef6"),
    "series-2": ("#641c10", "#f08939"),
    "series-3": ("#1b6a4a", "#aafbe4"),
    "series-4": ("#860da7", "#a983ad"),
    "series-5": ("#a38f16", "#f9de47"),
}
SERIES = tuple(role for role in COLOURS if role.startswith("series"))

#: Role: a colour that stands for it in a figure and that nothing else draws with.
STAND_IN = {role: f"#0{number:x}fe{number:x}0" for number, role in enumerate(COLOURS)}


def variables(theme: int) -> str:
    """CSS declarations of all roles; theme 0 is light, 1 is dark."""
    return " ".join(f"--{role}: {pair[theme]};" for role, pair in COLOURS.items())
