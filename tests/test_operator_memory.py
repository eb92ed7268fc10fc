"""No operator needs more than six full-size temporaries, its result among them, for many rows or entries.

Measured without autograd: there a graph keeps what it needs. A single row, which cannot be cut into
blocks, may need more: up to nine.
"""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from _families import OPERATORS, pair_id, sample

LARGE = [op for op in OPERATORS if op.name != "smooth_rank"]


def peak_bytes(call):
    call()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.plain
@pytest.mark.parametrize("operator", LARGE, ids=pair_id)
def test_at_most_six_temporaries(operator):
    for member in operator.members:
        x = sample(member, 1_000_000 // member.n).float()
        whole = operator.name in ("smooth_max", "smooth_min", "smooth_argmax", "smooth_argmin")
        full = x.nbytes if whole else x[..., 0].numel() * x.element_size()
        if not whole:
            x = x[..., :2].contiguous()
        with torch.no_grad():
            peak = peak_bytes(lambda x=x, member=member: operator.apply(x, member.make(member.knob)))
        assert peak <= 6 * full, f"{member.name}: {peak / full:.2f}"
