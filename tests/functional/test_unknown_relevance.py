"""A relevance of nan, or out of range, is never "nothing to order": its list has a loss of nan."""

import pytest
import torch

from smoothmax import functional as f

LOSSES = {
    "approx_ndcg": lambda s, y, **o: f.approx_ndcg(s, y, scale=2.0, **o),
    "lambda_loss": f.lambda_loss,
    "ndcg_loss1": lambda s, y, **o: f.lambda_loss(s, y, weighting="ndcg_loss1", **o),
    "lambda ranknet": lambda s, y, **o: f.lambda_loss(s, y, weighting="ranknet", k=1, **o),
    "smooth_ap": lambda s, y, **o: f.smooth_ap(s, y, scale=2.0, **o),
    "smooth_recall": lambda s, y, **o: f.smooth_recall(s, y, k=1, scale=2.0, **o),
    "ranknet": f.ranknet,
}
GAINS = ("approx_ndcg", "lambda_loss", "ndcg_loss1", "lambda ranknet")
SIGNED = tuple(set(LOSSES) - set(GAINS))
SCORES = torch.tensor([[0.3, 0.1, -0.2], [0.1, 0.5, 0.2]])


def relevance(odd):
    return torch.tensor([[1.0, odd, 0.0], [2.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    ("name", "odd"), [*((name, torch.nan) for name in LOSSES), *((name, -1.0) for name in GAINS)]
)
def test_its_list_alone_has_loss_and_gradient_nan(name, odd):
    scores = SCORES.clone().requires_grad_()
    losses = LOSSES[name](scores, relevance(odd), reduction="none")
    assert losses[0].isnan()
    assert losses[1].isfinite()
    assert LOSSES[name](scores, relevance(odd)).isnan()
    (gradient,) = torch.autograd.grad(losses.sum(), scores)
    assert gradient[0].isnan().any()
    (alone,) = torch.autograd.grad(LOSSES[name](scores[1:], relevance(odd)[1:]), scores)
    torch.testing.assert_close(gradient[1], alone[1])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("odd", [torch.nan, -1.0])
def test_padding_may_hold_it(name, odd):
    y = relevance(odd)
    masked = LOSSES[name](SCORES, y, where=y >= 0, reduction="none")
    without = LOSSES[name](SCORES[:1, [0, 2]], y[:1, [0, 2]], reduction="none")
    torch.testing.assert_close(masked[:1], without)


@pytest.mark.parametrize("name", sorted(SIGNED))
def test_where_the_sign_says_no_more_than_the_order_it_may_be_negative(name):
    y = torch.tensor([[1.0, -1.0, -1.0]])
    assert torch.equal(LOSSES[name](SCORES[:1], y), LOSSES[name](SCORES[:1], y.clamp(min=0)))


@pytest.mark.plain
@pytest.mark.parametrize("name", LOSSES)
def test_compiles_to_one_graph(name):
    compiled = torch.compile(LOSSES[name], fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(SCORES, relevance(torch.nan), reduction="none"),
        LOSSES[name](SCORES, relevance(torch.nan), reduction="none"),
        equal_nan=True,
    )
