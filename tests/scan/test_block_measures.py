"""The fast measures of rows equal the plain ones."""

import math

import pytest
import torch

from smoothmax import row_measures
from smoothmax.scan import measures
from smoothmax.scan.measures import TILE_SCORES, NotFinite, block_measures


@pytest.fixture(params=["native", "torch"], autouse=True)
def backend(request, monkeypatch):
    """Every test runs on the compiled kernels, where there are some, and on plain torch."""
    if request.param == "torch":
        monkeypatch.setattr(measures, "scans", lambda z: False)
    elif not measures.scans(torch.zeros(2, 2)):
        pytest.skip("the compiled kernels are not in use")
    return request.param


def rows_of(classes, dtype, count=97):
    generator = torch.Generator().manual_seed(classes)
    z = 3 * torch.randn(count, classes, generator=generator, dtype=dtype)
    return z, torch.randint(classes, (count,), generator=generator)


def agree(z, target, k, margin, *, relative):
    found = block_measures(z, target, k, margin)
    exact = row_measures(z.double(), target, kind="logits", scale=k, margin=margin)
    assert set(found) - {"target_lead", "top", "low"} == set(exact)
    seen = ~z.isnan().any(1)
    assert torch.equal(found["top"][seen], z.double().amax(1)[seen])
    torch.testing.assert_close(found["low"][seen], z.double().amin(1)[seen], rtol=1e-6, atol=1e-6)
    for name, values in exact.items():
        torch.testing.assert_close(
            found[name], values, rtol=relative, atol=relative / 30, equal_nan=True, msg=name
        )


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(("k", "margin"), [(1.0, 0.0), (30.0, 0.1), (0.01, 0.0)])
@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_every_measure_is_that_of_row_measures(classes, k, margin, labelled):
    for dtype, relative in ((torch.float32, 2e-5), (torch.float64, 1e-9)):
        z, target = rows_of(classes, dtype)
        agree(z, target if labelled else None, k, margin, relative=relative)


@pytest.mark.parametrize("labelled", [True, False])
def test_masked_classes_are_left_out(labelled):
    z, target = rows_of(10, torch.float64)
    z[5, 3] = -math.inf
    z[6, target[6]] = -math.inf
    z[7] = -math.inf
    z[7, target[7]] = 1.0
    z[8, 1:] = -math.inf
    target[8] = 0
    agree(z, target if labelled else None, 2.0, 0.0, relative=1e-9)


@pytest.mark.parametrize("labelled", [True, False])
def test_ties_and_constant_rows(labelled):
    z, target = rows_of(6, torch.float64)
    z[0] = 2.0
    z[1, :3] = 9.0
    z[2, target[2]] = z[2].max()
    z[3, [1, 2]] = 50.0
    target[3] = 0
    agree(z, target if labelled else None, 4.0, 0.0, relative=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("column", [0, 4])
def test_a_row_that_is_not_finite_is_named(bad, labelled, column):
    z, target = rows_of(10, torch.float32)
    target[:] = 4
    z[3, 4] = -math.inf
    z[71, column] = bad
    with pytest.raises(NotFinite, match="row 71"):
        block_measures(z, target if labelled else None, 1.0, 0.0)


def test_what_all_scores_share_costs_no_digits():
    z, target = rows_of(50, torch.float32)
    z = (z * 64).round() / 64
    near, far = (block_measures(z + shift, target, 1.0, 0.0) for shift in (0, 4096))
    for name in ("gap", "loss", "magnitude", "lead", "competitor_perplexity"):
        torch.testing.assert_close(near[name], far[name], rtol=1e-6, atol=1e-9)


def test_what_underflows_in_float32_is_still_ordered():
    """A target 60 nats ahead: the loss is e^-60 and the competitors among themselves are seen."""
    z = torch.tensor([[60.0, 0.0, 0.0, -1000.0]])
    found = block_measures(z, torch.tensor([0]), 1.0, 0.0)
    assert found["loss"].item() == pytest.approx(2 * math.exp(-60), rel=1e-6)
    assert found["competitor_perplexity"].item() == pytest.approx(2, rel=1e-6)


def test_the_block_is_left_as_it_was_and_tiles_do_not_show():
    z, target = rows_of(1000, torch.float32, count=3 * TILE_SCORES // 1000 + 5)
    before = z.clone()
    whole = block_measures(z, target, 2.0, 0.0)
    assert torch.equal(z, before)
    last = block_measures(z[-3:], target[-3:], 2.0, 0.0)
    for name, values in last.items():
        torch.testing.assert_close(whole[name][-3:], values, rtol=1e-6, atol=1e-7)
