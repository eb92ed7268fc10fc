"""Log-sum-exp over the classes other than the target: what every softmax loss is made of.

Leaner than `reference.logsumexp`: a loss has no use for infinite rows, so nothing guards them, and
+inf among the scores gives nan. -inf masks a class.
"""

import torch
from torch import Tensor


def logsumexp_of_others(z: Tensor, target: Tensor) -> Tensor:
    """Ln sum_{j != y} exp(z_j) for each row, classes last; -inf where there is no other class.

    Eight passes over z forward, no more than four temporaries of its size.

    Args:
        z: scores, the scale in them, float32 or float64.
        target: y, one index per row, in range.
    """
    return logsumexp_of_present(z.scatter(-1, target.unsqueeze(-1), -torch.inf))


def logsumexp_of_present(z: Tensor) -> Tensor:
    """Ln sum exp(z_j) over the last dim; -inf marks an entry as absent, and a row of which all are.

    Args:
        z: scores, the scale in them, float32 or float64.
    """
    if z.shape[-1] == 0:
        return z.sum(-1) - torch.inf
    anchor, index = z.detach().max(-1, keepdim=True)
    alone = anchor == -torch.inf
    terms = torch.exp(z - torch.where(alone, 0, anchor))
    # The value is log1p of all terms but the anchor's own, the derivatives are those of ln of all terms.
    rest = terms.detach().scatter(-1, index, 0).sum(-1, keepdim=True)
    log_total = torch.where(alone, 1, terms.sum(-1, keepdim=True)).log()
    value = anchor + (torch.log1p(rest) + (log_total - log_total.detach()))
    return torch.where(alone, -torch.inf, value).squeeze(-1)
