"""Dtypes: what half and double precision, autocast and one step of a half-precision run do."""

from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import Tensor

from smoothmax.migrate._probe import Probe, Seen, finite, judged
from smoothmax.migrate._subject import Raised, Subject, Trial
from smoothmax.migrate._words import DETACHED

#: A loss under autocast may differ from float64 by this, in nats or as a share, whichever is larger.
_TOLERANCE = 1e-3
_RATE = 0.01
_SHARE = 0.95


def takes(subject: Subject, dtype: torch.dtype) -> Seen:
    """Rows of another dtype than the parameters, without autocast."""
    x, y = subject.rows(8)
    return finite(Trial(subject).run(x.to(dtype), y))


def autocast(subject: Subject) -> Seen:
    """Rows from a backbone under bfloat16 autocast, against the same numbers in float64."""
    worst, at = 0.0, (0.0, 0.0)
    for x, y in _batches(subject):
        # Class weights of ours, in front of the module, must not add their own rounding.
        given = x if subject.kind in ("head", "pairs") else x.to(subject.dtype)
        with torch.autocast(subject.device.type, torch.bfloat16):
            got = Trial(subject).run(given, y)
        wrong = finite(got)
        if wrong.verdict == "fails":
            return wrong
        exact = Trial(subject, torch.float64).run(x.double(), y).loss
        error = abs(got.loss - exact) / max(1.0, abs(exact))
        if error >= worst:
            worst, at = error, (got.loss, exact)
    text = f"loss {at[0]:.5g}, in float64 {at[1]:.5g}: off by {worst:.1e}"
    return judged(worst <= _TOLERANCE, text, loss=at[0], exact=at[1], error=worst)


def _batches(subject: Subject) -> Iterator[tuple[Tensor, Tensor]]:
    """Eight small batches in bfloat16; with classes, a row at cosine about 0.6 to its class, twice."""
    for seed in range(8):
        x, y = subject.rows(8, seed)
        if subject.weights is not None:
            y = torch.tensor([seed % subject.num_classes] * 2)
            own = subject.weights.by_class(Trial(subject).weights.detach().cpu())[y[0], 0].float()
            other = x[0].float()
            x = (0.6 * own / own.norm() + 0.8 * other / other.norm()).expand(2, -1)
        yield x.bfloat16(), y


def keeps_dtype(subject: Subject) -> Seen:
    """The dtype of the class weights after batches of other dtypes."""
    before = Trial(subject).weights.dtype
    after = {dtype: _dtype_after(subject, dtype) for dtype in (torch.bfloat16, torch.float16, torch.float64)}
    changed = [
        f"{_short(got)} after a {_short(dtype)} batch" for dtype, got in after.items() if got != before
    ]
    text = f"becomes {', '.join(changed)}" if changed else "whatever the batch"
    numbers = {_short(dtype): float(got != before) for dtype, got in after.items()}
    return judged(not changed, f"{_short(before)} {text}", **numbers)


def _dtype_after(subject: Subject, dtype: torch.dtype) -> torch.dtype:
    trial, (x, y) = Trial(subject), subject.rows(8)
    # What was re-cast before the module raised shows here; that it raised is for other rows to say.
    with suppress(Raised):
        trial.run(x.to(dtype), y)
    return trial.weights.dtype


def bfloat16_step(subject: Subject) -> Seen:
    """Entries of the target classes' weights that one SGD step under bfloat16 autocast changes."""
    trial, (x, y) = Trial(subject), subject.rows(128)
    with torch.autocast(subject.device.type, torch.bfloat16):
        outcome = trial.run(x.bfloat16(), y)
    if outcome.weights is None:
        return judged(False, "no gradient reaches the class weights")._replace(words=DETACHED)
    weights = trial.weights
    before = weights.detach().clone()
    torch.optim.SGD([weights], lr=_RATE).step()
    share = subject.layout.by_class(before != weights.detach())[y.unique()].float().mean().item()
    what = f"{_short(weights.dtype)} weights, lr {_RATE:g}"
    text = f"{share:.2%} of the entries of the target rows change ({what})"
    return judged(share >= _SHARE, text, share=share)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


PRECISION = (
    Probe("bfloat16 input", lambda subject: takes(subject, torch.bfloat16)),
    Probe("float64 input", lambda subject: takes(subject, torch.float64)),
    Probe("bfloat16 autocast", autocast),
    Probe("weights keep dtype", keeps_dtype, ("head",)),
    Probe("bfloat16 step", bfloat16_step, ("head",)),
)
