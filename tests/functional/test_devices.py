"""Tensors on several devices are refused by name, where a kernel would answer with memory of no one."""

import pytest
import torch

from smoothmax import functional as f
from smoothmax.nn import CosineHead, LinearHead, ProxyAnchorHead

pytestmark = pytest.mark.plain
X, W, CENTRES = torch.randn(6, 8), torch.randn(5, 8), torch.randn(5, 2, 8)
Y, Z = torch.tensor([0, 1, 2, 3, 4, 0]), torch.randn(6, 5)
S, SAME = torch.randn(6, 6), torch.eye(6, dtype=torch.bool)
BOTH = {"scale": 8.0, "margin": 0.1}


def far(x):
    return x.to("meta")


CALLS = {
    "info_nce key": lambda: f.info_nce(X, far(X), scale=8.0),
    "info_nce query": lambda: f.info_nce(far(X), X, scale=8.0),
    "info_nce negatives": lambda: f.info_nce(X, X, scale=8.0, negatives=far(W)),
    "info_nce target": lambda: f.info_nce(X, X, scale=8.0, target=far(Y)),
    "info_nce ids": lambda: f.info_nce(X, X, scale=8.0, ids=far(Y)),
    "info_nce_pairs": lambda: f.info_nce_pairs(S, far(SAME), ~SAME, scale=8.0),
    "nt_xent": lambda: f.nt_xent(X, far(X), scale=8.0),
    "n_pair": lambda: f.n_pair(X, far(X)),
    "cosface prototypes": lambda: f.cosface(X, far(W), Y, **BOTH),
    "cosface target": lambda: f.cosface(X, W, far(Y), **BOTH),
    "normface weight": lambda: f.normface(X, W, Y, scale=8.0, weight=far(torch.ones(5))),
    "normface prior": lambda: f.normface(X, W, Y, scale=8.0, prior=far(torch.ones(5))),
    "normface probabilities": lambda: f.normface(X, W, far(Z.softmax(1)), scale=8.0),
    "linear_cross_entropy": lambda: f.linear_cross_entropy(X, far(W), Y),
    "linear_cross_entropy bias": lambda: f.linear_cross_entropy(X, W, Y, bias=far(torch.ones(5))),
    "linear_cross_entropy probabilities": lambda: f.linear_cross_entropy(X, far(W), Z.softmax(1)),
    "cosines": lambda: f.cosines(X, far(W)),
    "similarities": lambda: f.similarities(X, far(W)),
    "lse_and_target": lambda: f.lse_and_target(X, far(W), Y),
    "lse_and_target where": lambda: f.lse_and_target(X, W, Y, where=far(torch.ones(5, dtype=torch.bool))),
    "proxy_nca": lambda: f.proxy_nca(X, far(W), Y, scale=8.0),
    "proxy_anchor": lambda: f.proxy_anchor(X, far(W), Y, **BOTH),
    "soft_triple": lambda: f.soft_triple(X, far(CENTRES), Y, **BOTH, sharpness=1.0),
    "supcon target": lambda: f.supcon(X, far(Y), scale=8.0),
    "supcon reference": lambda: f.supcon(X, Y, scale=8.0, reference=far(X), reference_target=far(Y)),
    "triplet_margin": lambda: f.triplet_margin(X, X, far(X), margin=0.1),
    "softmax_cross_entropy": lambda: f.softmax_cross_entropy(Z, far(Y)),
    "softmax_cross_entropy weight": lambda: f.softmax_cross_entropy(Z, Y, weight=far(torch.ones(5))),
    "softplus_lse": lambda: f.softplus_lse(Z, far(Y)),
    "ranknet": lambda: f.ranknet(Z, far(Z)),
    "distillation": lambda: f.distillation(Z, far(Z), temperature=2.0),
    "CosineHead": lambda: CosineHead(8, 5, scale=8.0).to("meta")(X, Y),
    "CosineHead scores": lambda: CosineHead(8, 5, scale=8.0).to("meta").scores(X),
    "LinearHead": lambda: LinearHead(8, 5).to("meta")(X, Y),
    "ProxyAnchorHead": lambda: ProxyAnchorHead(8, 5).to("meta")(X, Y),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_two_devices_are_refused(call):
    rule = r"^`(\w+)` must be on the device of `\w+`, (cpu|meta), got (cpu|meta). Move one of them: \1\.to"
    with pytest.raises(ValueError, match=rule):
        call()


def test_a_scale_that_is_one_number_may_lie_on_the_cpu():
    loss = f.cosface(far(X), far(W), far(Y), scale=torch.tensor(8.0), margin=0.1)
    assert loss.shape == ()
