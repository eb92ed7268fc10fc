"""Lint a model: find settings of scale, temperature and margin that cannot do what they are meant to."""

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from torch import nn
from torch.optim import Optimizer

from smoothmax._checks import check_between, check_positive
from smoothmax.diagnose._lint_heads import find_heads
from smoothmax.diagnose._lint_rules import Goals, LintFinding, findings_of, learned_findings, shared_weights

_WIDTH = 100
_UNSEEN = (
    "scores multiplied or divided in the code of a `forward` or of the training loop, unless a module of its "
    "own does it",
    "normalisation outside the module that scores the classes",
    "a learned number that is clamped after each step, or that has an unusual name",
    "whether classes are balanced: the floors are those of the class-balanced loss",
)


@dataclass(frozen=True)
class LintReport:
    """What a linter found in a model; `print(report)` is for people.

    Attributes:
        heads: the heads that are understood, one line each.
        findings: what is wrong, in the order of the modules.
        unknown: modules that may be heads and are not understood.
        unseen: what cannot be seen from a model.
    """

    heads: tuple[str, ...]
    findings: tuple[LintFinding, ...]
    unknown: tuple[str, ...]
    unseen: tuple[str, ...] = _UNSEEN

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def as_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        found, known = _count(len(self.findings), "finding"), _count(len(self.heads), "head")
        yield f"{found}, {known} understood"
        for head in self.heads:
            yield from _wrapped(head, "  ")
        for finding in self.findings:
            yield ""
            yield from _wrapped(f"{finding.path}: {finding.rule}", "")
            yield from _wrapped(finding.reason[0].upper() + finding.reason[1:], "  ")
            yield from _wrapped(finding.remedy, "  ")
        if self.unknown:
            yield ""
            yield from _wrapped(f"Not understood: {', '.join(self.unknown)}.", "")
        yield ""
        yield from _wrapped(f"Not seen: {'; '.join(self.unseen)}.", "")


def lint(
    model: nn.Module,
    optimizer: Optimizer | None = None,
    *,
    probability: float = 0.9,
    excess: float = 1.0,
) -> LintReport:
    """What is wrong with the scales, temperatures and margins of a model; print the result.

    Looks for: a temperature that the linear layer before it absorbs; a scale at which separated classes
    cannot reach `probability`, because of its margin or anyway; one that starts too sharp for its
    dimension; features or class weights alone normalised; a learned scale without a bound, or with weight
    decay.

    Heads of ours and of pytorch-metric-learning are known by their attributes. A plain module with one
    matrix is known by trying a few rows on a shallow copy in evaluation mode, and so are the neighbours
    of nn.Linear in an nn.Sequential; nothing of the model changes. What cannot be seen is said in the
    report.

    Args:
        model: with its head or loss in it; `nn.ModuleList([backbone, head])` joins what lies apart.
        optimizer: to see weight decay, and to say what an absorbed temperature amounts to.
        probability: p of the window's lower end, as for `smoothmax.scale_window`.
        excess: nats of the window's upper end, as for `smoothmax.scale_window`.

    Returns:
        A report; `report.findings` names module, rule, numbers and remedy.

    Source:
        `docs/derivations.md`, "Absorption", "A learned scale", Theorems 5.1 and 5.4.

    Example:
        >>> from smoothmax.nn import CosineHead
        >>> [finding.rule for finding in lint(CosineHead(64, 10_575, scale=64.0)).findings]
        ['scale outside its window']
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}. Pass an instance.")
    check_between("probability", probability, 0, 1, "It is the target's.")
    check_positive("excess", excess, "It is a number of nats.", allow_inf=False)
    heads, unknown = find_heads(model)
    shared, goals = shared_weights(model), Goals(probability, excess)
    findings = [
        finding
        for head in heads
        for finding in findings_of(head, id(head.weights) in shared, optimizer, goals)
    ]
    findings += learned_findings(model, optimizer)
    return LintReport(tuple(map(str, heads)), tuple(findings), tuple(unknown))


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ")
