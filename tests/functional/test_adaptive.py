"""Margins from the length of a feature: what they are, and that their gradient is that of the value."""

import pytest
import torch

from smoothmax.functional import adaface, arcface, combined_margin, magface

F64 = torch.float64


def batch(lengths):
    torch.manual_seed(4)
    x = torch.nn.functional.normalize(torch.randn(len(lengths), 8, dtype=F64), dim=-1)
    features = x * torch.tensor(lengths, dtype=F64)[:, None]
    return features, torch.randn(5, 8, dtype=F64), torch.arange(len(lengths))


def test_magface_is_arcface_at_the_margin_of_the_length_plus_the_penalty():
    lengths = [5.0, 10.0, 60.0, 110.0]
    x, w, y = batch(lengths)
    ours = magface(x, w, y, scale=64.0, penalty=20.0, reduction="none")
    for i, a in enumerate(min(max(length, 10.0), 110.0) for length in lengths):
        m = 0.45 + 0.35 * (a - 10) / 100
        alone = arcface(x[i : i + 1], w, y[i : i + 1], scale=64.0, margin=m)
        assert ours[i].item() == pytest.approx(alone.item() + 20 * (1 / a + a / 110**2), rel=1e-12)


def test_the_least_penalty_is_the_one_that_the_paper_proves():
    x, w, y = batch([10.0, 60.0])
    by_default = magface(x, w, y, scale=64.0)
    bound = 64 * (0.8 - 0.45) / (110 - 10) * 110**2 * 10**2 / (110**2 - 10**2)
    assert bound == pytest.approx(22.586667, abs=1e-6)  # as its authors print it
    torch.testing.assert_close(by_default, magface(x, w, y, scale=64.0, penalty=bound), rtol=1e-14, atol=0)


def test_the_margin_of_magface_has_a_gradient_along_the_feature():
    """Published code computes the margin without a graph: the length then learns from the penalty alone."""
    x, w, y = batch([20.0, 60.0])
    x.requires_grad_()
    gradient = torch.autograd.grad(magface(x, w, y, scale=16.0, penalty=0.0), x)[0]
    radial = (gradient * x).sum(-1)
    step = 1e-6
    longer = x.detach() * torch.tensor([[1 + step], [1.0]], dtype=F64)
    shorter = x.detach() * torch.tensor([[1 - step], [1.0]], dtype=F64)
    above, below = (magface(moved, w, y, scale=16.0, penalty=0.0) for moved in (longer, shorter))
    numeric = (above - below) / (2 * step)
    assert radial[0].item() == pytest.approx(numeric.item(), rel=1e-6)
    assert abs(radial[0].item()) > 1e-3


def test_adaface_goes_from_angular_to_additive():
    x, w, y = batch([1.0, 20.0, 60.0])
    ours = adaface(x, w, y, mean=20.0, std=5.0, scale=64.0, margin=0.4, reduction="none")
    for i, q in enumerate((max(-1.0, -19 / 5 * 0.333), 0.0, 1.0)):
        margins = (1.0, -0.4 * q, 0.4 * (1 + q))
        if margins[1] < 0:
            angle = torch.nn.functional.cosine_similarity(x[i], w[i], dim=0).acos()
            assert angle + margins[1] > 0  # where the paper's formula needs no clip
            target = torch.cos(angle + margins[1]) - margins[2]
            cosines = torch.nn.functional.normalize(x[i], dim=0) @ torch.nn.functional.normalize(w, dim=-1).T
            cosines[i] = target
            alone = torch.nn.functional.cross_entropy(64 * cosines, y[i])
        else:
            alone = combined_margin(x[i : i + 1], w, y[i : i + 1], scale=64.0, margins=margins)
        assert ours[i].item() == pytest.approx(alone.item(), rel=1e-10)


def test_detached_quality_has_no_radial_gradient():
    x, w, y = batch([15.0, 20.0])
    x.requires_grad_()
    options = {"mean": 20.0, "std": 5.0, "scale": 16.0}
    fixed = torch.autograd.grad(adaface(x, w, y, detach=True, **options), x)[0]
    true = torch.autograd.grad(adaface(x, w, y, **options), x)[0]
    assert (fixed * x).sum(-1).abs().max() < 1e-13
    assert (true * x).sum(-1).abs().min() > 1e-6


@pytest.mark.parametrize("loss", [magface, lambda *a: adaface(*a, mean=1.0, std=0.5)])
def test_a_row_of_zeros_and_a_batch_of_one_are_finite(loss):
    x, w = torch.zeros(1, 8, requires_grad=True), torch.randn(5, 8, requires_grad=True)
    value = loss(x, w, torch.tensor([2]))
    assert value.isfinite()
    assert all(g.isfinite().all() for g in torch.autograd.grad(value, (x, w)))


def test_bad_ranges_are_refused_in_words():
    x, w, y = batch([1.0])
    with pytest.raises(ValueError, match=r"`lengths` must be \(low, high\) with low < high"):
        magface(x, w, y, lengths=(110.0, 10.0))
    with pytest.raises(TypeError, match="`penalty` must be given where `scale` is a tensor"):
        magface(x, w, y, scale=torch.tensor(64.0))
    with pytest.raises(ValueError, match="`std` must be > 0"):
        adaface(x, w, y, mean=1.0, std=0.0)
    with pytest.raises(ValueError, match="`margin` must be an angle in radians"):
        adaface(x, w, y, mean=1.0, std=1.0, margin=28.6)
