"""Write the table of properties into docs/families.md, from the code; --check only compares.

python docs/families_table.py [--check]
"""

import math
import sys
from pathlib import Path

import smoothmax as sm

PAGE = Path(__file__).with_name("families.md")
START, END = "<!-- table: docs/families_table.py -->\n", "<!-- end of table -->\n"

FAMILIES = {
    sm.LogSumExp: ("ln(n)/k", lambda n: sm.LogSumExp(1.0).gap(n)),
    sm.MellowMax: ("ln(n)/k", lambda n: sm.MellowMax(1.0).gap(n)),
    sm.Boltzmann: ("W((n - 1)/e)/k", lambda n: sm.Boltzmann(1.0).gap(n)),
    sm.Quadratic: ("(1 - 1/n)/(2k)", lambda n: sm.Quadratic(1.0).gap(n)),
    sm.SquareRoot: ("eps/2", lambda n: sm.SquareRoot(1.0).gap(2)),
    sm.DoubleExp: ("ln(1 + ln n)/k", lambda n: sm.DoubleExp(1.0).gap(n)),
    sm.PowerNorm: ("(n^(1/p) - 1) M", lambda n: sm.PowerNorm(64.0).gap(n)),
    sm.PowerMean: ("(1 - n^(-1/p)) M", lambda n: sm.PowerMean(64.0).gap(n)),
    sm.OddRoot: ("(n^(1/(2k+1)) - 1) M", lambda n: sm.OddRoot(32).gap(n)),
}


def table() -> str:
    """The table in Markdown."""
    head = "| family | side | largest gap | n = 1000 | convex | monotone | translates | scales "
    head += "| derivatives | L2 | Linf | domain |\n"
    return head + "|---|---|---|---|---|---|---|---|---|---|---|---|\n" + "".join(map(_row, FAMILIES))


def _row(family: type[sm.Family]) -> str:
    formula, gap = FAMILIES[family]
    p = family.properties
    order = "all" if math.isinf(p.differentiability) else f"{p.differentiability:g}"
    domain = p.domain if p.entries is None else f"{p.entries} entries"
    cells = [f"`{family.__name__}`", p.side, formula, f"{gap(1000):.4g}"]
    cells += [
        "yes" if held else "no" for held in (p.convex, p.monotone, p.translation_equivariant, p.homogeneous)
    ]
    return f"| {' | '.join([*cells, order, *_constants(family), domain])} |\n"


def _constants(family: type[sm.Family]) -> list[str]:
    """The Lipschitz constants of the gradient, in units of the sharpness k, or of 1/eps."""
    unit = 1 / 2.0 if family is sm.SquareRoot else 2.0
    member = family(3) if family is sm.OddRoot else family(2.0)
    return [_constant(member.gradient_lipschitz(norm) / unit, family) for norm in ("l2", "linf")]


def _constant(factor: float, family: type[sm.Family]) -> str:
    if math.isinf(factor):
        return "none"
    unit = "1/eps" if family is sm.SquareRoot else "k"
    return unit if factor == 1 else f"k/{1 / factor:g}" if factor < 1 else f"{factor:g}{unit.lstrip('1')}"


def page() -> str:
    """The page with its table as the code has it."""
    text = PAGE.read_text()
    before, rest = text.split(START)
    return before + START + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if page() == PAGE.read_text() else "docs/families.md differs from the code.")
    PAGE.write_text(page())
