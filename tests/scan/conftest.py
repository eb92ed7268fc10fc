"""Scores with labels, as arrays and as a job over a file."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from _tables import table
from smoothmax.scan.tally import Settings
from smoothmax.scan.work import Job


class Case(NamedTuple):
    scores: torch.Tensor
    target: torch.Tensor
    job: Job


@pytest.fixture
def case(tmp_path):
    """1,003 rows of 40 classes, half of them wrong, in blocks of 64 rows."""
    generator = torch.Generator().manual_seed(7)
    scores = torch.randn(1003, 40, generator=generator)
    target = torch.randint(40, (1003,), generator=generator)
    scores[torch.arange(1003), target] += 2.5
    np.save(tmp_path / "scores.npy", scores.numpy())
    np.save(tmp_path / "labels.npy", target.numpy())
    settings = Settings("logits", 1.5, 0.1, 40, True)
    scored, labelled = table(tmp_path / "scores.npy"), table(tmp_path / "labels.npy", ndim=1)
    return Case(scores, target, Job(scored, labelled, None, settings, block_rows=64))
