"""Margins: psi and its slope on all of [0, pi], at the switch and the ends; what published code computes."""

import math

import pytest
import torch
import torch._dynamo.testing

from smoothmax.functional import (
    adaface,
    arcface,
    combined_margin,
    cosface,
    linear_cross_entropy,
    magface,
    normface,
    proxy_anchor,
    proxy_nca,
    soft_triple,
    sphereface,
    sub_center,
)
from smoothmax.functional._margins import ARC_VARIANTS, angle_of, arc, combined

F64 = torch.float64
MARGINS = [0.2, 0.35, 0.5, 1.0]
DEGREES = [30.0, 60.0, 90.0, 120.0]


def plane(angle, dtype=F64):
    """Features at an angle to the first of six orthogonal prototypes, which point along axes of eight."""
    w = torch.eye(6, 8, dtype=F64)
    aside = torch.tensor([0, 0.1, 0.2, 0.3, 0.25, 0.15, 0.4, 0.5], dtype=F64)  # no two cosines tie
    x = math.sin(angle) * aside / aside.norm()
    x[0] = math.cos(angle)
    return (5 * x).unsqueeze(0).to(dtype).requires_grad_(), (0.5 * w).to(dtype).requires_grad_()


def slope(psi, angle):
    """dpsi/dtheta through the cosine."""
    c = torch.tensor(math.cos(angle), dtype=F64, requires_grad=True)
    return (torch.autograd.grad(psi(c), c)[0] * -math.sin(angle)).item()


@pytest.mark.parametrize("m", MARGINS)
def test_the_angular_margin_is_monotone_on_all_angles(m):
    c = torch.linspace(0, math.pi, 20_001, dtype=F64).cos()
    psi = arc(c, m, "monotone")
    assert (psi.diff() < 0).all()
    half = arc(c.float(), m, "monotone")
    assert (half.diff() <= 0).all()


@pytest.mark.parametrize("m", MARGINS)
def test_its_slope_is_the_true_one_before_and_after_the_switch(m):
    for angle in [1e-3, *map(math.radians, DEGREES), math.pi - m - 1e-3]:
        if angle < math.pi - m:
            ratio = slope(lambda c: arc(c, m, "monotone"), angle) / -math.sin(angle + m)
            assert ratio == pytest.approx(1.0, rel=1e-9)
    for angle in (math.pi - m + 1e-3, math.pi - 1e-3):
        after = slope(lambda c: arc(c, m, "monotone"), angle)
        assert after == pytest.approx(math.sin(angle + m), rel=1e-9)


@pytest.mark.parametrize(("factor", "m"), [(1.0, 0.5), (1.0, 1.0), (1.35, 0.0), (2.0, 0.3), (4.0, 0.0)])
def test_value_and_slope_are_continuous_at_every_switch(factor, m):
    def psi(c):
        return combined(c, factor, m, 0.0)

    switches = [(k * math.pi - m) / factor for k in range(1, 5)]
    for angle in (a for a in switches if 1e-3 < a < math.pi - 1e-3):
        below, above = (torch.tensor(math.cos(angle + e), dtype=F64) for e in (-1e-7, 1e-7))
        assert (psi(below) - psi(above)).abs().item() < 1e-12
        assert abs(slope(psi, angle - 1e-7)) < 1e-5
        assert abs(slope(psi, angle + 1e-7)) < 1e-5


@pytest.mark.parametrize("m", [2, 3, 4])
def test_whole_multiples_are_chebyshev_polynomials(m):
    c = torch.linspace(-0.999, 0.999, 101, dtype=F64)
    polynomial = {2: 2 * c**2 - 1, 3: 4 * c**3 - 3 * c, 4: 8 * c**4 - 8 * c**2 + 1}[m]
    k = torch.floor(m * c.acos() / math.pi)
    torch.testing.assert_close(combined(c, m, 0.0, 0.0), (-1) ** k * polynomial - 2 * k, rtol=0, atol=1e-13)


@pytest.mark.parametrize("variant", ARC_VARIANTS)
def test_variants_agree_before_the_switch(variant):
    c = torch.linspace(0.01, 1.0, 50, dtype=F64)
    torch.testing.assert_close(arc(c, 0.5, variant), (c.acos() + 0.5).cos(), rtol=0, atol=1e-7)


def jump(variant, m, at):
    below, above = (torch.tensor(math.cos(at + e), dtype=F64) for e in (-1e-9, 1e-9))
    return (arc(below, m, variant) - arc(above, m, variant)).item()


def test_published_variants_have_their_published_faults():
    """The jumps, the flats and the slope ratios measured on those libraries."""
    switch = math.pi - 0.5
    assert jump("m_sin_m", 0.5, switch) == pytest.approx(0.117, abs=5e-4)
    assert jump("m_sin_m", 0.2, math.pi - 0.2) == pytest.approx(0.020, abs=5e-4)
    assert jump("shifted", 0.5, switch) == pytest.approx(0.0, abs=1e-8)
    assert jump("easy", 0.5, math.pi / 2) == pytest.approx(-math.sin(0.5), abs=1e-8)
    assert slope(lambda c: arc(c, 0.5, "clipped"), switch + 0.1) == 0
    c = torch.linspace(0, math.pi, 1000, dtype=F64).cos()
    assert (arc(c, 0.5, "wrapped").diff() > 0).any()
    for degrees, ratio in zip(DEGREES, (0.585, 0.866, 1.139, 1.664), strict=True):
        angle = math.radians(degrees)
        ours = slope(lambda c: arc(c, 0.5, "straight_through"), angle)
        assert ours / -math.sin(angle + 0.5) == pytest.approx(ratio, abs=6e-4)


def test_the_angle_is_exact_next_to_the_ends():
    c = torch.tensor([1 - 2.0**-53, 1 - 2.0**-40, -1 + 2.0**-53, 0.0, 1.0, -1.0], dtype=F64)
    exact = [2 * math.asin(math.sqrt(2.0**-54)), 2 * math.asin(math.sqrt(2.0**-41))]
    exact += [math.pi - 2 * math.asin(math.sqrt(2.0**-54)), math.pi / 2, 0.0, math.pi]
    assert angle_of(c).tolist() == pytest.approx(exact, rel=1e-14)
    beyond = torch.tensor([1 + 2.0**-23, -1 - 2.0**-23])
    assert angle_of(beyond).tolist() == pytest.approx([0.0, math.pi])


LOSSES = {
    "normface": lambda x, w, y, **o: normface(x, w, y, scale=64.0, **o),
    "cosface": lambda x, w, y, **o: cosface(x, w, y, scale=64.0, margin=0.35, **o),
    **{
        f"arcface {variant}": lambda x, w, y, v=variant, **o: arcface(
            x, w, y, scale=64.0, margin=0.5, variant=v, **o
        )
        for variant in ARC_VARIANTS
    },
    "sphereface": lambda x, w, y, **o: sphereface(x, w, y, scale=64.0, margin=1.35, **o),
    "combined": lambda x, w, y, **o: combined_margin(x, w, y, scale=64.0, margins=(0.9, 0.4, 0.15), **o),
    "sub_center": lambda x, w, y, **o: sub_center(
        x, torch.stack([w, -w.roll(1, 0)], 1), y, scale=64.0, margin=0.5, **o
    ),
    # Within the lengths between which the margin moves.
    "magface": lambda x, w, y, **o: magface(x, w, y, scale=64.0, lengths=(1.0, 90.0), **o),
    "adaface": lambda x, w, y, **o: adaface(x, w, y, mean=4.5, std=20.0, scale=64.0, **o),
    "proxy_nca": lambda x, w, y, **o: proxy_nca(x, w, y, scale=64.0, **o),
    "proxy_nca others": lambda x, w, y, **o: proxy_nca(x, w, y, scale=64.0, denominator="others", **o),
    "proxy_anchor": lambda x, w, y, **o: proxy_anchor(x, w, y, scale=64.0, margin=0.1, **o).sum(),
    "soft_triple": lambda x, w, y, **o: soft_triple(
        x, torch.stack([w, -w.roll(1, 0)], 1), y, scale=64.0, margin=0.01, sharpness=10.0, **o
    ),
    "linear": lambda x, w, y, **o: linear_cross_entropy(x, w, y, **o),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, F64], ids=str)
@pytest.mark.parametrize("sign", [1, -1], ids=["aligned", "opposed"])
def test_exactly_aligned_and_opposed_rows_are_finite(loss, dtype, sign):
    for features in (3, 8, 64, 512):
        w = torch.randn(5, features).to(dtype).requires_grad_()
        x = (sign * 4 * w.detach()).requires_grad_()
        value = loss(x, w, torch.arange(5))
        gradients = torch.autograd.grad(value, (x, w), create_graph=True)
        assert value.isfinite()
        assert all(g.isfinite().all() for g in gradients)
        second = torch.autograd.grad(sum((g * g).sum() for g in gradients), (x, w), allow_unused=True)
        assert dtype in (torch.bfloat16, torch.float16) or all(g.isfinite().all() for g in second)


@every_loss
@pytest.mark.parametrize(
    "angle",
    [
        1e-3,
        math.radians(30),
        math.radians(90),
        math.pi - 0.5 - 1e-3,
        math.pi - 0.5 + 1e-3,
        math.radians(179.9),
    ],
    ids=["1e-3", "30", "90", "before the switch", "after it", "179.9"],
)
def test_first_and_second_derivatives_are_right_at_every_angle(loss, angle, one_thread, request):
    if "straight_through" in request.node.name:
        pytest.skip("its gradient is not that of its value, which is what it is for")
    if "90-arcface easy" in request.node.name:
        pytest.skip("its value jumps at 90 degrees")
    x, w = plane(angle)

    def scaled(x, w):  # the scale of 64 only makes the numerical derivative worse
        return loss(x, w, torch.tensor([0]), reduction="sum") / 64

    assert torch.autograd.gradcheck(scaled, (x, w), eps=1e-7, atol=1e-5, rtol=1e-3)
    assert torch.autograd.gradgradcheck(scaled, (x, w), eps=1e-7, atol=2e-3, rtol=2e-2)


def test_zero_rows_are_finite_and_still():
    for loss in (
        loss for name, loss in LOSSES.items() if name != "linear"
    ):  # inner products have no direction
        x, w = torch.randn(4, 8), torch.randn(5, 8)
        x[0], w[1] = 0, 0
        x.requires_grad_()
        w.requires_grad_()
        gradients = torch.autograd.grad(loss(x, w, torch.tensor([2, 1, 0, 3])), (x, w))
        assert all(g.isfinite().all() for g in gradients)
        assert (gradients[0][0] == 0).all()
        assert (gradients[1][1] == 0).all()


def test_the_common_form_contains_the_others():
    x, w, y = torch.randn(6, 8, dtype=F64), torch.randn(5, 8, dtype=F64), torch.randint(5, (6,))
    for margins, other in (
        ((1.0, 0.0, 0.0), normface(x, w, y, scale=16.0)),
        ((1.0, 0.0, 0.35), cosface(x, w, y, scale=16.0, margin=0.35)),
        ((1.0, 0.5, 0.0), arcface(x, w, y, scale=16.0, margin=0.5)),
        ((1.35, 0.0, 0.0), sphereface(x, w, y, scale=16.0, margin=1.35)),
    ):
        ours = combined_margin(x, w, y, scale=16.0, margins=margins)
        torch.testing.assert_close(ours, other, rtol=1e-13, atol=0)


def test_sub_centers_take_the_nearest_and_leave_the_others_alone():
    x, y = torch.randn(6, 8, dtype=F64), torch.randint(5, (6,))
    w = torch.randn(5, 3, 8, dtype=F64, requires_grad=True)
    near = torch.einsum(
        "nd,ckd->nck", torch.nn.functional.normalize(x, dim=-1), torch.nn.functional.normalize(w, dim=-1)
    )
    index = near[torch.arange(6), y].argmax(-1)
    gradient = torch.autograd.grad(sub_center(x, w, y, scale=16.0, margin=0.5), w)[0]
    for row in range(6):
        assert gradient[y[row], index[row]].abs().sum() > 0
    one = sub_center(x, w[:, :1], y, scale=16.0, margin=0.5)
    torch.testing.assert_close(one, arcface(x, w[:, 0], y, scale=16.0, margin=0.5), rtol=1e-14, atol=0)


@pytest.mark.plain
def test_sub_centers_are_a_dim_of_their_own():
    x, w, y = torch.randn(6, 8), torch.randn(5, 8), torch.randint(5, (6,))
    with pytest.raises(ValueError, match=r"`prototypes` must be \(classes, centers, features\)"):
        sub_center(x, w, y, scale=16.0, margin=0.5)


def test_every_class_may_have_its_own_margin():
    x, w, y = torch.randn(6, 8, dtype=F64), torch.randn(5, 8, dtype=F64), torch.randint(5, (6,))
    margins = torch.rand(5, dtype=F64)
    ours = arcface(x, w, y, scale=16.0, margin=margins[y], reduction="none")
    for i in range(6):
        alone = arcface(x[i : i + 1], w, y[i : i + 1], scale=16.0, margin=margins[y[i]].item())
        assert ours[i].item() == pytest.approx(alone.item(), rel=1e-13)


@pytest.mark.plain
def test_bad_margins_are_refused_in_words():
    x, w, y = torch.randn(2, 8), torch.randn(5, 8), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"`margin` must be an angle in radians, .* got 28\.6"):
        arcface(x, w, y, scale=16.0, margin=28.6)
    with pytest.raises(ValueError, match=r"`margin` must be finite, got inf"):
        cosface(x, w, y, scale=16.0, margin=math.inf)
    with pytest.raises(ValueError, match=r"`margin` must be a number, got nan"):
        cosface(x, w, y, scale=16.0, margin=math.nan)
    with pytest.raises(ValueError, match=r"`margin` must be >= 1, a factor of the angle, got 0\.5"):
        sphereface(x, w, y, scale=16.0, margin=0.5)
    with pytest.raises(ValueError, match=r"`margins` must be \(m1, m2, m3\), .* got \(1.0, 0.5\)"):
        combined_margin(x, w, y, scale=16.0, margins=(1.0, 0.5))
    with pytest.raises(ValueError, match=r"`variant` must be one of .* Did you mean 'monotone'"):
        arcface(x, w, y, scale=16.0, margin=0.5, variant="monoton")
    with pytest.raises(ValueError, match=r"`prior` must have one entry per class"):
        normface(x, w, y, scale=16.0, prior=torch.ones(4))
    with pytest.raises(TypeError, match=r"`target` must be class indices, got torch\.float32"):
        cosface(x, w, torch.rand(2, 5), scale=16.0, margin=0.2)


@pytest.mark.plain
@pytest.mark.parametrize(
    "name", ["cosface", "arcface", "arcface m_sin_m", "sphereface", "combined", "magface"]
)
def test_scales_and_margins_that_change_from_batch_to_batch_stay_one_graph(name):
    """As a schedule changes them; from its second value on torch.compile holds a number as a symbol."""
    torch._dynamo.reset()
    x, w, y = torch.randn(4, 8, dtype=F64), torch.randn(5, 8, dtype=F64), torch.randint(5, (4,))
    losses = {
        "cosface": lambda k, m: cosface(x, w, y, scale=k, margin=m),
        "arcface": lambda k, m: arcface(x, w, y, scale=k, margin=m),
        "arcface m_sin_m": lambda k, m: arcface(x, w, y, scale=k, margin=m, variant="m_sin_m"),
        "sphereface": lambda k, m: sphereface(x, w, y, scale=k, margin=1 + m),
        "combined": lambda k, m: combined_margin(x, w, y, scale=k, margins=(1.0, m, m)),
        "magface": lambda k, m: magface(x, w, y, scale=k, margins=(m, 0.9), penalty=3.0),
    }
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(losses[name], fullgraph=True, backend=counter)
    for k, m in ((8.0, 0.1), (9.0, 0.2), (10.0, 0.3), (11.0, 0.4)):
        torch.testing.assert_close(compiled(k, m), losses[name](k, m), rtol=1e-12, atol=0)
    assert counter.frame_count <= 2  # the number itself, then a symbol
