"""Find out how a module is called and where its class weights are; ask where that is not certain."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn

from smoothmax._checks import check_choice, check_count
from smoothmax.migrate._call import (
    FORMS,
    OBJECTIVES,
    Call,
    OnClassWeights,
    attempt,
    attempt_plain,
    behind_class_weights,
    through,
)
from smoothmax.migrate._subject import ClassWeights, Objective, Raised, Subject, normal

_CLASS_NAMES = ("num_classes", "n_classes", "num_class", "class_num", "classnum", "out_features", "n_class")
_WIDTH_NAMES = ("embedding_size", "in_features", "feat_dim", "feature_dim", "embedding_dim")
_WIDTH = 16
_ASK = "Pass `call=`, or `loss=`, a function of (module, input, target) that returns a loss."


@dataclass(frozen=True)
class Hints:
    """What the caller said; None is what he left to find out."""

    call: Call | None
    loss: Objective | None
    prototypes: str | None
    transposed: bool | None
    num_classes: int | None


@dataclass(frozen=True)
class _Form:
    """A way of calling, and its words."""

    objective: Objective
    said: str


def understand(module: nn.Module, hints: Hints) -> Subject:
    """How the module is called and where its class weights are."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"`module` must be a torch.nn.Module, got {type(module).__name__}. Pass an instance.")
    if hints.call is not None:
        check_choice("call", hints.call, get_args(Call))
    if hints.num_classes is not None:
        check_count("num_classes", hints.num_classes, 2, "One class has nothing to compete with.")
    try:
        pristine = copy.deepcopy(module)
    except Exception as error:
        way_out = "Everything is tried on copies: pass a freshly made one."
        raise ValueError(f"`module` must survive copy.deepcopy, got {error}. {way_out}") from error
    name = _name_of_weights(pristine, hints)
    return _without_weights(pristine, hints) if name is None else _with_weights(pristine, name, hints)


def _name_of_weights(module: nn.Module, hints: Hints) -> str | None:
    """The parameter that can hold class weights: the one named, or the only matrix."""
    if hints.call in ("margin", "scores", "pairs"):
        return None
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters() if p.ndim in (2, 3)}
    if hints.prototypes is not None:
        check_choice("prototypes", hints.prototypes, shapes)
        return hints.prototypes
    if len(shapes) > 1:
        raise ValueError(
            f"`prototypes` must name the class weights, as several parameters could be them: {shapes}. "
            "Where layers come before the head, check the head alone."
        )
    return next(iter(shapes), None)


def _with_weights(module: nn.Module, name: str, hints: Hints) -> Subject:
    """Of the layouts that the shape allows, the one that can be called."""
    told = hints.num_classes or _number(module, _CLASS_NAMES)
    shape = tuple(module.get_parameter(name).shape)
    works, problems = [], []
    for layout in _layouts(name, shape, told, hints.transposed):
        try:
            works.append((layout, _form(module, layout, hints)))
        except Raised as problem:
            problems.append(f"with {layout.num_classes} classes of {layout.features} features it {problem}")
    # Ours say how they keep theirs: classes first, which is the first that is tried.
    ours = type(module).__module__.startswith("smoothmax.")
    if len(works) > 1 and (not ours or type(module).__module__.startswith("smoothmax.compat.")):
        raise ValueError(
            f"`{name}` of shape {shape} can be read in {len(works)} ways. Pass `transposed=True` if it is "
            "(features, classes), `transposed=False` if (classes, features), and `num_classes=`."
        )
    if not works:
        raise _not_callable(problems or [f"`{name}` of shape {shape} holds no {told or 'two'} classes"])
    layout, form = works[0]
    said = (form.said, _describe(layout, shape))
    return Subject(module, form.objective, "head", layout, layout.features, layout.num_classes, said)


def _layouts(
    name: str, shape: tuple[int, ...], told: int | None, transposed: bool | None
) -> Iterator[ClassWeights]:
    if len(shape) == 3:
        yield ClassWeights(name, shape[0], shape[2], centers=shape[1])
        return
    for flip in (False, True):
        rows, features = reversed(shape) if flip else shape
        num_classes = told or rows
        if transposed in (None, flip) and num_classes > 1 and features > 1 and rows % num_classes == 0:
            yield ClassWeights(name, num_classes, features, rows // num_classes, flip)


def _describe(layout: ClassWeights, shape: tuple[int, ...]) -> str:
    order = "features first" if layout.transposed else "classes first"
    centers = f" of {layout.centers} centres" if layout.centers > 1 else ""
    return (
        f"class weights: `{layout.name}` {shape}, {order}: {layout.num_classes} classes{centers}, "
        f"{layout.features} features"
    )


def _form(module: nn.Module, layout: ClassWeights, hints: Hints) -> _Form:
    """How a module with class weights is called; `Raised` where it cannot be."""
    x, y = normal(4, layout.features, seed=-3), torch.tensor([0, 1, 0, layout.num_classes - 1])
    form = _told(hints)
    if form is not None:
        attempt(form.objective, module, x, y)
        return form
    result, where = attempt_plain(module, x, y, layout.num_classes)
    call: Call = "logits" if result.ndim == 2 else "loss"
    return _Form(OBJECTIVES[call], FORMS[call] + where)


def _told(hints: Hints) -> _Form | None:
    if hints.loss is not None:
        return _Form(through(hints.loss), "called through the function given")
    return None if hints.call is None else _Form(OBJECTIVES[hints.call], FORMS[hints.call])


def _without_weights(module: nn.Module, hints: Hints) -> Subject:
    """A function of cosines, of scores, or a comparison of rows."""
    classes = hints.num_classes or _number(module, _CLASS_NAMES) or 10
    width = _number(module, _WIDTH_NAMES) or classes
    call = hints.call or _call_without_weights(module, hints.loss, classes, width)
    form = _told(hints) or _Form(OBJECTIVES[call], FORMS[call])
    if call == "pairs":
        said = (form.said, "no class weights: it compares rows")
        return Subject(module, form.objective, call, None, width, 4, said)
    if call not in ("margin", "scores"):
        raise ValueError(
            f"`call={call!r}` needs class weights, but no parameter of the module is a matrix. "
            "Pass `call='margin'`, `'scores'` or `'pairs'`."
        )
    outer = OnClassWeights(module, classes, _WIDTH, cosines=call == "margin")
    layout = ClassWeights("prototypes", classes, _WIDTH)
    said = (form.said, f"class weights: ours, {classes} classes, {_WIDTH} features")
    return Subject(outer, behind_class_weights(form.objective), call, layout, _WIDTH, classes, said)


def _call_without_weights(module: nn.Module, loss: Objective | None, classes: int, width: int) -> Call:
    """Found out by trying: what comes out, and what it depends on.

    A loss that stays when the classes are renamed compares rows; one that is the mean or the sum over the
    halves of a batch takes each row by itself, so its columns are scores.
    """
    x = normal(8, width, seed=-3)
    y = torch.arange(8) // 2

    def tried(rows: slice, labels: Tensor) -> Tensor:
        if loss is not None:
            return attempt(through(loss), module, x[rows], labels[rows])
        return attempt_plain(module, x[rows], labels[rows], width)[0]

    try:
        whole = tried(slice(8), y)
        if whole.ndim == 2:
            return "margin"
        renamed = tried(slice(8), torch.arange(classes).roll(1)[y]).mean()
        halves = torch.stack([tried(slice(4), y).mean(), tried(slice(4, 8), y).mean()])
    except Raised as problem:
        raise _not_callable([f"it {problem}"]) from problem
    whole = whole.mean()
    if torch.allclose(whole, renamed, rtol=1e-5):
        return "pairs"
    if any(torch.allclose(whole, parts, rtol=1e-5) for parts in (halves.mean(), halves.sum())):
        return "scores"
    raise ValueError(
        "`call` cannot be found out: the loss changes when classes are renamed, and is not the mean over its "
        f"rows. {_ASK}"
    )


def _not_callable(problems: list[str]) -> ValueError:
    return ValueError(f"`module` could not be called as module(input, target): {'; '.join(problems)}. {_ASK}")


def _number(module: nn.Module, names: tuple[str, ...]) -> int | None:
    """The first of these attributes that is a whole number above 1."""
    values = (getattr(module, name, None) for name in names)
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool) and v > 1), None)
