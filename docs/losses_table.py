"""Write the table of losses into docs/api/functional.md, from the docstrings; --check only compares.

python docs/losses_table.py [--check]

Limits, gaps and budgets are copied here from the docstrings, word by word: a test looks for them there.
"""

import inspect
import re
import sys
from pathlib import Path
from typing import NamedTuple

import smoothmax.functional as functional

PAGE = Path(__file__).parent / "api" / "functional.md"
START, END = "<!-- table: docs/losses_table.py -->\n", "<!-- end of table -->\n"


class Row(NamedTuple):
    """What a loss tends to as the scale grows, how far it may be from that, and its sum of |gradient|."""

    hard: str
    gap: str
    budget: str = ""


#: Losses whose docstrings state a limit of their own; all others say whose they share.
STATED = {
    "max_loss": Row("max_j z_j - z_y", "0", "2 or 0"),
    "multiclass_hinge": Row("max(0, max_{j != y} z_j + m - z_y)", "0", "2 or 0"),
    "lse_hinge": Row("multiclass_hinge", "ln(C-1)/k", "2 or 0"),
    "softplus_lse": Row("multiclass_hinge", "ln(C)/k", "2 (1 - p_y)"),
    "softmax_cross_entropy": Row("max(0, max_{j!=y} z_j + m - z_y)", "ln(C)/k", "2 k (1 - p_y)"),
    "arcface": Row("max(0, max_{j!=y} c_j - psi)", "ln(C)/s"),
    "info_nce": Row("(max s_N - s_p + m)+", "ln(1 + n_N)/k", "2 k (1 - p)"),
    "supcon": Row("(max over P and N - mean s_P)", "ln(n_P + n_N)/k", "<= 2 k"),
    "nca": Row("(max s_N - max s_P)+", "ln(1 + n_N)/k", "2 k (1 - p)"),
    "circle": Row("(max s_N - min s_P + m)+", "ln(1 + n_P n_N)/k", "2 k (1 - e^-loss)"),
    "lifted": Row("(max s_N - min s_P + m)+", "ln(n_P n_N)/k", "2 k where the loss is positive, else 0"),
    "triplet": Row("hard", "ln 2", "2 k sigmoid(k h)"),
    "proxy_nca": Row("(max_{j != y} s_j - s_y)", "ln(C-1)/k", "2 k over the others"),
    "proxy_anchor": Row("(m + max s)+", "ln(1 + n)/k", "k (1 - e^-pull) + k (1 - e^-push)"),
    "ranknet": Row("hinge", "ln(2)/k"),
    "lambda_loss": Row("sum w_ij max(0, s_j - s_i)/ln 2", "sum w_ij/scale"),
    "approx_ndcg": Row("(1 - NDCG)", "(n - 1) e sum_i G_i/(2 ln 2)"),
    "smooth_ap": Row("(1 - AP)", "max(P - 1, n - P) e"),
    "smooth_recall": Row("(1 - recall at k)", "P/min(k, P)/(1 + e^((1/2 - (n - 1) e)/t))"),
    "distillation": Row("max student - student[argmax teacher]", ""),
}
#: Budgets of losses that share a limit.
BUDGETS = {"normface": "2 s (1 - p_y)"}
#: Of the functions, those that are no loss with a limit: parts, penalties, and what goes into a loss.
WITHOUT = {
    "correctness", "cosines", "feature_incay", "gather_rows", "l2_constrained", "lse_and_target",
    "margins_from_counts", "mellowmax_backup", "mellowmax_sharpness", "pair_masks", "prior_from_counts",
    "ring_loss", "score_magnitude_sharpness", "similarities", "soft_cap", "softmax_policy", "z_loss",
}  # fmt: skip


def section(name: str, heading: str) -> str:
    """A section of a loss's docstring on one line; empty where it has none."""
    doc = inspect.getdoc(getattr(functional, name)) or ""
    found = re.search(rf"^{heading}:\n((?:    .*\n?|\n)+)", doc, re.MULTILINE)
    return " ".join(found[1].split()) if found else ""


def table() -> str:
    """The table in Markdown, in the order of the page; `_pairs` functions share the row of their loss."""
    head = "| loss | hard limit | gap | sum of \\|gradient\\| | source |\n|---|---|---|---|---|\n"
    return head + "".join(_row(name) for name in losses())


def losses() -> list[str]:
    """The losses on the page in its order, without those of given pairs."""
    names = re.findall(r"^::: smoothmax\.functional\.([a-z]\w+)", PAGE.read_text(), re.MULTILINE)
    return [name for name in names if name not in WITHOUT and not name.endswith("_pairs")]


def _row(name: str) -> str:
    if name in STATED:
        hard, gap, budget = (_code(cell) for cell in STATED[name])
    else:
        shared = re.split(r"[.:;](?: |$)", section(name, "Gap"))[0]
        hard, gap, budget = shared[0].lower() + shared[1:], "", _code(BUDGETS.get(name, ""))
    return f"| [`{name}`](#smoothmax.functional.{name}) | {hard} | {gap} | {budget} | {_source(name)} |\n"


def _code(cell: str) -> str:
    return f"`{cell}`" if cell else ""


def _source(name: str) -> str:
    keys = re.findall(r"\[([A-Z][A-Za-z]+\d{4}[a-z]?)\]", section(name, "Source").split("Differs:")[0])
    if keys:
        return ", ".join(dict.fromkeys(keys))
    shared = re.match(r"As `(\w+)`", section(name, "Source"))
    return _source(shared[1]) if shared else "[derivations](../derivations.md)"


def page() -> str:
    """The page with its table as the docstrings have it."""
    before, rest = PAGE.read_text().split(START)
    return before + START + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if page() == PAGE.read_text() else "docs/api/functional.md differs from the docstrings.")
    PAGE.write_text(page())
