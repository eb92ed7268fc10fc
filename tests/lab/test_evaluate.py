"""Verification and identification agree with their definitions, computed pair by pair."""

import pytest
import torch
import torch.nn.functional as F

from smoothmax.lab import evaluate
from smoothmax.lab.evaluate import open_set


def by_definition(embeddings, labels, far):
    """All pairs in one matrix, the threshold by sorting."""
    cosine = F.normalize(embeddings.double()) @ F.normalize(embeddings.double()).T
    upper = torch.ones_like(cosine, dtype=torch.bool).triu(1)
    same = labels[:, None] == labels
    genuine, impostor = cosine[upper & same], cosine[upper & ~same].sort(descending=True).values
    threshold = impostor[max(1, int(far * len(impostor)))]
    nearest = cosine.fill_diagonal_(-2).argmax(1)
    return (genuine > threshold).double().mean().item(), (labels[nearest] == labels).double().mean().item()


@pytest.mark.parametrize("chunk", [7, 64, 1000])
@pytest.mark.parametrize("far", [1e-3, 1e-2, 0.2])
def test_tar_and_rank1_equal_the_definition_for_any_chunk(monkeypatch, chunk, far):
    monkeypatch.setattr(evaluate, "CHUNK_ROWS", chunk)
    labels = torch.arange(40).repeat_interleave(5)
    embeddings = torch.randn(40, 16).repeat_interleave(5, 0) + 1.0 * torch.randn(200, 16)
    found = open_set(embeddings.double(), labels, far=far)
    tar, rank1 = by_definition(embeddings, labels, far)
    assert 0 < tar < 1
    assert found.tar == pytest.approx(tar, abs=1e-12)
    assert found.rank1 == pytest.approx(rank1, abs=1e-12)
    assert found.far <= far


def test_perfectly_separated_classes_are_all_accepted():
    labels = torch.arange(10).repeat_interleave(3)
    assert open_set(torch.eye(10)[labels], labels)[0] == 1.0


def test_the_length_of_embeddings_plays_no_part():
    labels = torch.arange(20).repeat_interleave(4)
    x = torch.randn(80, 8)
    lengths = torch.rand(80, 1) + 0.5
    assert open_set(x, labels, far=0.01).tar == open_set(x * lengths, labels, far=0.01).tar


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 0, 0], []])
def test_without_pairs_of_both_kinds_nothing_is_measured(labels):
    assert open_set(torch.randn(len(labels), 4), torch.tensor(labels, dtype=torch.long)) is None
