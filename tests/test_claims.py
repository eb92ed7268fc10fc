"""One test for each claim of the first design document, by its number in the ledger (theory, section 1.1).

The document: "smooth-degree control in softmax", on how far log-sum-exp lies above the maximum, what the
size of the scores does to it, and how temperature, Feature Incay and normalised scores control it. Where
the ledger calls a claim imprecise or wrong, the test holds the computed correction.
"""

import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from _golden import assert_close
from smoothmax import (
    LogSumExp,
    best_probability,
    explain_scale,
    loss_floor,
    row_measures,
    scale_for,
    smooth_argmax,
    smooth_max,
)
from smoothmax.functional import (
    cosface,
    cosines,
    feature_incay,
    normface,
    score_magnitude_sharpness,
    softmax_cross_entropy,
)
from smoothmax.nn import LinearHead

F64 = torch.float64
SEED = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=F64)
INF = math.inf


def hard_loss(z: torch.Tensor, y: int) -> float:
    """Claim A2's loss, as the limit of ours: max z - z_y."""
    return (smooth_max(z, sharpness=INF) - z[y]).item()


def loss(z: torch.Tensor, y: int, **options) -> float:
    return softmax_cross_entropy(z, torch.tensor(y), **options).item()


def test_A01_the_goal_is_that_the_target_has_the_largest_score():
    for _ in range(20):
        z = torch.randn(5, dtype=F64)
        y = z.argmax().item()
        measured = [
            row_measures(z[None], torch.tensor([c]), kind="logits")["correct"].item() for c in range(5)
        ]
        assert measured == [float(c == y) for c in range(5)]


def test_A02_max_minus_target_score_is_zero_for_a_maximiser_and_positive_otherwise():
    """Ties allowed; and it is the hinge over the others."""
    for z in (torch.randn(5, dtype=F64), torch.tensor([2.0, 2.0, 1.0], dtype=F64)):
        for y in range(len(z)):
            value = hard_loss(z, y)
            assert (value == 0) == (z[y] == z.max())
            assert value >= 0
            others = torch.cat([z[:y], z[y + 1 :]])
            assert value == max(0.0, (others.max() - z[y]).item())


def test_A03_log_sum_exp_for_the_maximum_gives_softmax_cross_entropy():
    z = torch.randn(6, dtype=F64)
    for y in range(6):
        smoothed = (smooth_max(z, sharpness=1.0) - z[y]).item()
        assert smoothed == pytest.approx(-math.log(torch.softmax(z, 0)[y]), rel=1e-13)
        assert loss(z, y) == pytest.approx(smoothed, rel=1e-13)


def test_A04_a_margin_on_all_scores_is_a_constant_and_on_the_others_alone_it_is_not():
    """With y inside the maximum the loss never falls below m; ours reaches 0."""
    m = 0.5
    for _ in range(20):
        z = 10 * torch.randn(5, dtype=F64)
        y = z.argmax().item()
        on_all = (smooth_max(z + m, sharpness=4.0) - z[y]).item()
        assert on_all >= m
        assert on_all - m == pytest.approx((smooth_max(z, sharpness=4.0) - z[y]).item(), abs=1e-13)
    confident = torch.tensor([9.0, 0.0, 0.0], dtype=F64)
    assert loss(confident, 0, scale=4.0, margin=m) < 1e-14
    assert loss(confident, 0, scale=4.0, margin=m) > loss(confident, 0, scale=4.0)


def test_A05_softmax_and_log_sum_exp_are_what_their_names_say():
    x = torch.randn(7, dtype=F64)
    e = [math.exp(v) for v in x.tolist()]
    assert smooth_argmax(x, sharpness=1.0).tolist() == pytest.approx([v / sum(e) for v in e], rel=1e-14)
    assert smooth_max(x, sharpness=1.0).item() == pytest.approx(math.log(sum(e)), rel=1e-14)


def test_A06_softmax_of_1_2_3_4():
    p = smooth_argmax(SEED, sharpness=1.0).tolist()
    assert p == pytest.approx([0.0320586, 0.0871443, 0.2368828, 0.6439143], abs=5e-8)


def test_A07_log_sum_exp_of_1_2_3_4():
    assert smooth_max(SEED, sharpness=1.0).item() == pytest.approx(4.440189698561196, rel=1e-15)


def test_A08_scores_of_ratio_four_differ_twentyfold_after_softmax_because_of_their_difference():
    p = smooth_argmax(SEED, sharpness=1.0)
    assert (p[3] / p[0]).item() == pytest.approx(20.0855, abs=5e-5)
    shifted = smooth_argmax(SEED + 100, sharpness=1.0)  # now the scores have the ratio 1.03
    assert (shifted[3] / shifted[0]).item() == pytest.approx(math.exp(3), rel=1e-12)


def test_A09_it_is_a_poor_one_hot_vector():
    p = smooth_argmax(SEED, sharpness=1.0)
    assert 1 - p[3].item() == pytest.approx(0.356, abs=5e-4)
    assert loss(SEED, 3) / math.log(4) == pytest.approx(0.318, abs=5e-4)


def test_A10_softmax_of_10_20_30_40():
    p = smooth_argmax(10 * SEED, sharpness=1.0).tolist()
    assert p == pytest.approx([9.35720e-14, 2.06106e-9, 4.53979e-5, 0.99995460], rel=1e-5)


def test_A11_log_sum_exp_of_10_20_30_40():
    assert smooth_max(10 * SEED, sharpness=1.0).item() == pytest.approx(40.0000454010, abs=5e-11)


def test_A12_softmax_of_a_tenth():
    p = smooth_argmax(SEED / 10, sharpness=1.0).tolist()
    assert p == pytest.approx([0.2138382, 0.2363278, 0.2611826, 0.2886514], abs=5e-8)


def test_A13_log_sum_exp_of_a_tenth():
    assert smooth_max(SEED / 10, sharpness=1.0).item() == pytest.approx(1.642535529, abs=5e-10)


def test_A14_there_softmax_outputs_differ_by_less_than_a_factor_of_two():
    p = smooth_argmax(SEED / 10, sharpness=1.0)
    assert (p[3] / p[0]).item() == pytest.approx(1.34986, abs=5e-6)


def test_A15_trap_i_there_log_sum_exp_is_4_1_times_the_maximum_which_is_no_measure():
    """It exceeds it by 3.1 times; adding 10 makes the ratio 1.12, while gap, softmax and loss stay."""
    x = SEED / 10
    value = smooth_max(x, sharpness=1.0).item()
    assert value / 0.4 == pytest.approx(4.10634, abs=5e-6)
    assert (value - 0.4) / 0.4 == pytest.approx(3.10634, abs=5e-6)
    assert smooth_max(x + 10, sharpness=1.0).item() / 10.4 == pytest.approx(1.11947, abs=5e-6)
    for row in (x, x + 10):
        measured = row_measures(row[None], torch.tensor([3]), kind="logits")
        assert measured["gap"].item() == pytest.approx(1.242536, abs=5e-7)
        assert measured["normalized_gap"].item() == pytest.approx(0.8963, abs=5e-5)
        assert measured["loss"].item() == pytest.approx(1.242536, abs=5e-7)


def test_A16_for_small_scores_the_loss_hardly_tells_right_from_wrong():
    assert loss(SEED / 10, 3) == pytest.approx(1.2425, abs=5e-5)
    assert loss(SEED / 10, 0) == pytest.approx(1.5425, abs=5e-5)
    assert loss(SEED / 10, 3) < math.log(4) == pytest.approx(1.3863, abs=5e-5)
    for size, contrast in [(0.1, 0.0745), (1.0, 0.694), (10.0, 0.999995)]:
        measured = row_measures(size * SEED[None], kind="logits")["contrast"].item()
        assert measured == pytest.approx(contrast, abs=5e-4 if size < 10 else 5e-7)


def test_A17_log_sum_exp_over_the_others_is_a_margin_of_at_most_ln_n_minus_1_over_k():
    for k in (0.5, 1.0, 8.0):
        for _ in range(20):
            others = torch.randn(6, dtype=F64)
            margin = LogSumExp(k).gap_of(others).item()
            assert 0 <= margin <= math.log(6) / k
        assert LogSumExp(k).gap_of(torch.zeros(6, dtype=F64)).item() == pytest.approx(math.log(6) / k)
        assert explain_scale(k, 7).implied_margin == pytest.approx(math.log(6) / k)


def test_A18_large_scores_lose_the_margin_and_small_ones_the_approximation():
    """Scaling z by c is k -> c k: the margin, in units of the scores, goes to 0, or exceeds their range."""
    others = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=F64)
    for c in (0.01, 1.0, 100.0):
        assert LogSumExp(1.0).gap_of(c * others).item() == pytest.approx(
            c * LogSumExp(c).gap_of(others).item(), rel=1e-13
        )
        assert loss(c * SEED, 1) == pytest.approx(loss(SEED, 1, scale=c), rel=1e-13)
    assert LogSumExp(100.0).gap_of(others).item() < 1e-40
    assert LogSumExp(0.01).gap_of(others).item() > 100 * 1.3 > 3.0


def test_A19_temperature_divides_the_scores():
    z = torch.randn(5, dtype=F64)
    for t in (0.25, 1.0, 3.0):
        e = [math.exp(v / t) for v in z.tolist()]
        assert smooth_argmax(z, temperature=t).tolist() == pytest.approx([v / sum(e) for v in e], rel=1e-13)


def test_A20_smaller_temperature_is_closer_to_one_hot_or_to_a_share_for_each_tie():
    z = torch.tensor([0.3, 2.0, -1.0, 1.7], dtype=F64)
    largest = [smooth_argmax(z, temperature=t).max().item() for t in (10.0, 3.0, 1.0, 0.3, 0.1, 0.003)]
    assert largest == sorted(largest)
    assert largest[0] < 0.3
    assert largest[-1] == pytest.approx(1.0, abs=1e-15)
    tie = torch.tensor([2.0, 2.0, 1.0, 2.0], dtype=F64)
    assert_close(smooth_argmax(tie, temperature=1e-3), torch.tensor([1, 1, 0, 1], dtype=F64) / 3)


# A21: Theorem 10.1

STEPS = 40
RATE, DECAY, EPS = 0.3, 0.01, 1e-8

# What must be done to the optimiser of W and b at T = 1 so that it equals training at T.
CORRECTED = {
    "sgd": lambda t: {"lr": RATE / t**2, "weight_decay": DECAY * t**2},
    "adam": lambda t: {"lr": RATE / 10 / t, "eps": EPS * t, "weight_decay": DECAY * t**2},
    "adamw": lambda t: {"lr": RATE / 10 / t, "eps": EPS * t, "weight_decay": DECAY * t},
}
MAKERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def train(optimizer: str, *, temperature: float, shrink: float, options: dict) -> list[float]:
    """Losses of a two-layer net whose last layer starts at W0/shrink, under softmax(z/T)."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(32, 6, dtype=F64, generator=generator)
    y = torch.randint(4, (32,), generator=generator)
    torch.manual_seed(6)
    body = nn.Sequential(nn.Linear(6, 8), nn.Tanh()).double()
    head = LinearHead(8, 4, scale=1 / temperature).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.div_(shrink)
    rest = CORRECTED[optimizer](1.0)
    groups = [{"params": body.parameters(), **rest}, {"params": head.parameters(), **rest, **options}]
    solver = MAKERS[optimizer](groups)
    losses = []
    for _ in range(STEPS):
        solver.zero_grad()
        value = head(body(x), y)
        value.backward()
        solver.step()
        losses.append(value.item())
    return losses


def furthest(a: list[float], b: list[float]) -> float:
    return max(abs(u - v) for u, v in zip(a, b, strict=True))


@pytest.mark.parametrize("optimizer", MAKERS)
def test_A21_a_linear_layer_absorbs_the_temperature_only_with_a_corrected_learning_rate(
    optimizer, one_thread
):
    """Bit for bit where T is a power of two; uncorrected, training goes another way."""
    hot = train(optimizer, temperature=4.0, shrink=1.0, options={})
    assert hot[-1] < 0.9 * hot[0]  # it does train
    corrected = CORRECTED[optimizer]
    assert train(optimizer, temperature=1.0, shrink=4.0, options=corrected(4.0)) == hot
    third = train(optimizer, temperature=3.0, shrink=1.0, options={})
    absorbed = train(optimizer, temperature=1.0, shrink=3.0, options=corrected(3.0))
    assert furthest(third, absorbed) < 1e-12
    for options in (
        corrected(1.0),  # nothing corrected but the start
        {**corrected(4.0), "lr": corrected(1.0)["lr"]},  # the decay alone
        {**corrected(4.0), "weight_decay": DECAY},  # the learning rate alone
    ):
        assert furthest(train(optimizer, temperature=1.0, shrink=4.0, options=options), hot) > 1e-4


def test_A21_the_rule_of_one_optimiser_is_not_that_of_another(one_thread):
    """Adam needs lr/T: with SGD's lr/T^2 it goes another way."""
    hot = train("adam", temperature=4.0, shrink=1.0, options={})
    wrong = {**CORRECTED["adam"](4.0), "lr": RATE / 10 / 16}
    assert furthest(train("adam", temperature=1.0, shrink=4.0, options=wrong), hot) > 1e-2


def test_A21_the_regularised_optimum_moves_unless_the_decay_is_rescaled(one_thread):
    """(lambda/2)|W|^2 = (lambda T^2/2)|W'|^2: at T = 4, lambda/16 restores the optimum of T = 1."""

    def optimum(temperature: float, decay: float) -> float:
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(40, 5, dtype=F64, generator=generator)
        y = torch.randint(3, (40,), generator=generator)
        w = torch.zeros(3, 5, dtype=F64, requires_grad=True)
        solver = torch.optim.LBFGS(
            [w], max_iter=200, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
        )

        def fit() -> torch.Tensor:
            return softmax_cross_entropy(x @ w.T, y, scale=1 / temperature)

        def closure():
            solver.zero_grad()
            value = fit() + decay / 2 * w.square().sum()
            value.backward()
            return value

        solver.step(closure)
        return fit().item()

    assert optimum(4.0, 0.05) > optimum(1.0, 0.05) + 1e-2
    assert optimum(4.0, 0.05 / 16) == pytest.approx(optimum(1.0, 0.05), rel=1e-9)


def test_A22_a_temperature_from_the_size_of_the_scores_makes_the_size_irrelevant():
    """b(c z) = b(z)/c: softmax(b z) is the same at every size, so no layer can absorb it (Remark 6.5)."""
    z = torch.randn(9, 6, dtype=F64, requires_grad=True)
    expected = smooth_argmax(z, sharpness=score_magnitude_sharpness(z, 5.0))
    for c in (1e-3, 0.5, 1e4):
        assert_close(smooth_argmax(c * z, sharpness=score_magnitude_sharpness(c * z, 5.0)), expected)
    sharpness = score_magnitude_sharpness(z, 5.0, detach=False)
    slope = torch.autograd.grad(sharpness, z)[0]
    assert (slope * z).sum().item() == pytest.approx(-sharpness.item(), rel=1e-13)


def test_A23_feature_incay_adds_the_reciprocal_of_the_squared_length_of_correct_rows():
    f = torch.tensor([[3.0, 4.0], [0.3, 0.4], [1.0, 0.0]], dtype=F64)
    correct = torch.tensor([True, True, False])
    assert feature_incay(f, correct, reduction="none").tolist() == pytest.approx([1 / 25, 4.0, 0.0])
    assert feature_incay(f, correct).item() == pytest.approx(4.04 / 3)


def test_A24_short_features_are_lengthened_much_more_but_for_the_shortest_with_eps():
    def pull(r: float, eps: float = 0.0) -> float:
        f = torch.tensor([[r, 0.0, 0.0]], dtype=F64, requires_grad=True)
        gradient = torch.autograd.grad(feature_incay(f, torch.tensor([True]), eps=eps), f)[0][0]
        assert gradient[1:].tolist() == [0.0, 0.0]  # radial only
        return -gradient[0].item()

    radii = (0.1, 0.5, 1.0, 3.0, 20.0)
    assert [pull(r) for r in radii] == pytest.approx([2 / r**3 for r in radii], rel=1e-13)
    assert pull(0.1) > 7000 * pull(2.0)
    eps = 0.03
    peak = math.sqrt(eps / 3)
    rising = [pull(share * peak, eps) for share in (0.0, 0.3, 0.6, 1.0)]
    falling = [pull(share * peak, eps) for share in (1.0, 2.0, 5.0)]
    assert rising[0] == 0
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert rising[-1] == pytest.approx(3 * math.sqrt(3) / 8 * eps**-1.5, rel=1e-13)


def test_A25_the_paper_is_cited_as_the_preprint_that_it_surely_is():
    """Acceptance by a workshop is known from secondary sources only."""
    path = Path(__file__).parents[1] / "docs" / "references.bib"
    assert path.exists(), "docs/references.bib is not there yet"
    entry = re.search(r"@\w+\{Yuan2017,.*?\n\}", path.read_text(), re.DOTALL)
    assert entry, "docs/references.bib has no entry Yuan2017"
    assert "feature incay" in entry[0].lower()
    assert "1705.10284" in entry[0]
    assert "2017" in entry[0]


def test_A26_scores_depend_on_features_only_through_a_layer():
    """z_j = |w_j| |f| cos_j + b_j: lengthening f by c is k -> c k only where there is no bias."""
    head = LinearHead(5, 4).double()
    f = torch.randn(3, 5, dtype=F64)
    length = head.prototypes.norm(dim=1) * f.norm(dim=1, keepdim=True)
    assert_close(head.scores(f), length * cosines(f, head.prototypes) + head.bias)
    bare = LinearHead(5, 4, bias=False).double()
    y = torch.tensor([0, 1, 2])
    for c in (0.5, 8.0):
        longer = softmax_cross_entropy(bare.scores(c * f), y)
        assert_close(longer, softmax_cross_entropy(bare.scores(f), y, scale=c))


def test_A27_a_penalty_leaves_short_features_short():
    """It is finite at every length, and a misclassified row gets none of it, nor any pull."""
    f = torch.tensor([[1e-3, 0.0], [1e-3, 0.0]], dtype=F64, requires_grad=True)
    losses = feature_incay(f, torch.tensor([True, False]), reduction="none")
    assert losses.tolist() == pytest.approx([1e6, 0.0])
    assert torch.autograd.grad(losses.sum(), f)[0][1].tolist() == [0.0, 0.0]
    # Against a gain of 10 per unit of shortening the balance is at 2/r^3 = 10: short, and final.
    r = torch.tensor(1.0, dtype=F64, requires_grad=True)
    for _ in range(400):
        total = feature_incay(torch.stack([r, 0 * r])[None], torch.tensor([True])) + 10 * r
        r = (r - 0.01 * torch.autograd.grad(total, r)[0]).detach().requires_grad_()
    assert r.item() == pytest.approx(0.2 ** (1 / 3), rel=1e-6)


def test_A28_normalised_features_and_weights_make_scores_cosines():
    x, w = 1e3 * torch.randn(50, 7, dtype=F64), 1e-3 * torch.randn(30, 7, dtype=F64)
    scores = cosines(x, w)
    assert scores.abs().max().item() <= 1 + 4 * 2**-53
    assert scores[0, 0].item() == pytest.approx(math.cos(_angle(x[0], w[0])), rel=1e-12)


def _angle(a: torch.Tensor, b: torch.Tensor) -> float:
    """By half-angles: 2 atan2(|a/|a| - b/|b||, |a/|a| + b/|b||)."""
    a, b = a / a.norm(), b / b.norm()
    return 2 * math.atan2((a - b).norm().item(), (a + b).norm().item())


def test_A29_a_scale_multiplies_the_cosines():
    x, w, y = torch.randn(4, 6, dtype=F64), torch.randn(5, 6, dtype=F64), torch.tensor([0, 3, 1, 4])
    for s in (1.0, 20.0):
        e = torch.exp(s * F.normalize(x) @ F.normalize(w).T)
        expected = -(e[range(4), y] / e.sum(1)).log().mean()
        assert_close(normface(x, w, y, scale=s), expected)


def test_A30_the_scale_needed_follows_from_the_bound_of_normface():
    """The paper's own numbers, the inversion, and that a smaller scale cannot do."""
    for n, p in ((10, 0.4509), (1000, 0.007342)):  # other cosines at -1, as crude as can be
        assert 1 / (1 + (n - 1) * math.exp(-2)) == pytest.approx(p, rel=2e-4)
        assert scale_for(n, probability=p, other_cosine=-1.0) == pytest.approx(1.0, rel=2e-4)
        assert best_probability(n, 1.0) < 0.6 * p  # what its proposition 2 allows
    assert loss_floor(10_575, 1.0) == pytest.approx(8.26632, abs=5e-6)
    for n in (10, 1000, 10_575):
        for s in (1.0, 8.0, 16.0):
            assert scale_for(n, loss=loss_floor(n, s)) == pytest.approx(s, rel=1e-9)
            assert scale_for(n, probability=best_probability(n, s)) == pytest.approx(s, rel=1e-9)
    w = torch.eye(10, dtype=F64) - 0.1
    needed = scale_for(10, probability=0.95)
    reached = [
        math.exp(-cosface(w, w, torch.arange(10), scale=s, margin=0.0).item())
        for s in (0.99 * needed, needed)
    ]
    assert reached[0] < 0.95
    assert reached[1] == pytest.approx(0.95, rel=1e-12)
