"""Losses of pairs: naive ones pick each anchor's positives and negatives and write the formula."""

import torch
import torch.nn.functional as F

from _contract.case import CLASSES, FEATURES, PAIR, ROWS, TARGET, Case, along, naive_cosines
from _contract.classes import wide
from smoothmax import functional

LABELS = torch.tensor([0, 1, 0, 1, 2, 0])  # the fifth row has no positive
MEMORY_LABELS = torch.tensor([1, 0, 2, 1, 0])
IDS = torch.tensor([7, 3, 7, 4, 5, 3])
MASK = torch.arange(ROWS * (ROWS + 2)).reshape(ROWS, ROWS + 2) % 5 != 1
BATCH = {"input": (ROWS, FEATURES)}
VIEWS = {"input": (ROWS, FEATURES), "other": (ROWS, FEATURES)}


def chosen(s, of_class=LABELS, of_reference=None):
    """(anchor, similarities of positives, of negatives) for each anchor that has both."""
    references = of_class if of_reference is None else of_reference
    for i, label in enumerate(of_class):
        same, others = references == label, references != label
        if of_reference is None:
            same = same & (torch.arange(len(same)) != i)
        if same.any() and others.any():
            yield i, s[i][same], s[i][others]


def mean(losses):
    return torch.stack(list(losses)).mean()


def naive_distances(x, y):
    return (x[:, None] - y[None]).square().sum(-1)


def root(square):
    """The root, with a finite slope on the diagonal, which no loss looks at."""
    return (square + torch.eye(len(square), dtype=square.dtype)).sqrt()


def naive_soft_hard_triplet(x, k, m):
    s = naive_cosines(x, x)
    return mean(torch.log1p(torch.exp(k[i] * (n.max() - p.min() + m))) for i, p, n in chosen(s))


def naive_swapped_triplets(x):
    d = root(naive_distances(x, x))
    terms = [
        F.relu(d[a, p] - torch.minimum(d[a, n], d[p, n]) + 0.3)
        for a in range(ROWS)
        for p in range(ROWS)
        for n in range(ROWS)
        if a != p and LABELS[a] == LABELS[p] != LABELS[n]
    ]
    return mean(terms)


def naive_info_nce(query, key, k):
    """Both directions, keys of equal ids left out."""
    duplicate = (IDS[:, None] == IDS) & ~torch.eye(ROWS, dtype=torch.bool)
    s, own = naive_cosines(query, key), torch.arange(ROWS)
    one_way, other_way = (
        F.cross_entropy((along(k) * scores).masked_fill(duplicate, -torch.inf), own) for scores in (s, s.T)
    )
    return (one_way + other_way) / 2


def naive_own_negatives(query, key, negatives, k, m):
    own = torch.einsum("nd,nmd->nm", F.normalize(query, dim=-1), F.normalize(negatives, dim=-1))
    eye = torch.eye(ROWS, dtype=query.dtype)
    s = torch.cat((naive_cosines(query, key) - m * eye, own), 1)
    hidden = ~MASK & ~F.pad(eye, (0, 2)).bool()
    return F.cross_entropy((k * s).masked_fill(hidden, -torch.inf), torch.arange(ROWS))


def naive_nt_xent(a, b, k):
    rows = torch.cat((a, b))
    logits = (k * naive_cosines(rows, rows)).masked_fill(torch.eye(2 * ROWS, dtype=torch.bool), -torch.inf)
    return F.cross_entropy(logits, torch.arange(2 * ROWS).roll(ROWS))


def naive_info_nce_pairs(s, k):
    terms = [-torch.log(e / (e + (k[i] * n).exp().sum())) for i, p, n in chosen(s) for e in (k[i] * p).exp()]
    return mean(terms)


def naive_supcon(x, k):
    s = naive_cosines(x, x)
    return mean(
        -torch.log((k * p).exp() / (k * torch.cat((p, n))).exp().sum()).mean() for _, p, n in chosen(s)
    )


def naive_supcon_in(x, k):
    s = -naive_distances(x, x)
    return mean(
        -torch.log(((k[i] * p).exp() / (k[i] * torch.cat((p, n))).exp().sum()).mean())
        for i, p, n in chosen(s)
    )


def naive_nca(x, memory, k):
    s = naive_cosines(x, memory)
    parts = [((k * p).exp().sum(), (k * n).exp().sum()) for _, p, n in chosen(s, LABELS, MEMORY_LABELS)]
    return mean(-torch.log(p / (p + n)) for p, n in parts)


def naive_wrong_neighbours(x, k):
    s = x @ x.T
    parts = [((k * p).exp().sum(), (k * n).exp().sum()) for _, p, n in chosen(s)]
    return torch.stack([n / (p + n) for p, n in parts]).sum()


def naive_circle(x, k, m):
    total = []
    for i, p, n in chosen(naive_cosines(x, x)):
        near = torch.exp(-k[i] * F.relu(1 + m - p) * (p - 1 + m)).sum()
        total.append(torch.log1p(near * torch.exp(k[i] * F.relu(n + m) * (n - m)).sum()))
    return mean(total)


def naive_circle_unified(x, k, m):
    s = naive_cosines(x, x)
    return mean(torch.log1p(torch.exp(k * (n[:, None] - p + m[i])).sum()) for i, p, n in chosen(s))


def naive_lifted(x, m):
    d = root(naive_distances(x, x))
    return mean(F.relu(torch.log(p.exp().sum()) + torch.log((m - n).exp().sum())) for _, p, n in chosen(d))


def naive_proxy_nca(x, w, k):
    logits = along(k) * naive_cosines(x, w)
    own = F.one_hot(TARGET, CLASSES).bool()
    return (logits.masked_fill(own, -torch.inf).logsumexp(1) - logits[own]).mean()


def naive_proxy_anchor(x, w, k, m):
    s = naive_cosines(x, w)
    pulls = [torch.log1p(torch.exp(-k * (s[c == TARGET, c] - m)).sum()) for c in range(CLASSES)]
    pushes = [torch.log1p(torch.exp(k * (s[c != TARGET, c] + m)).sum()) for c in range(CLASSES)]
    return mean(pulls) + mean(pushes)  # every proxy has rows


def naive_soft_triple(x, w, k, m):
    s = torch.einsum("nd,ckd->nck", F.normalize(x, dim=-1), F.normalize(w, dim=-1))
    scores = (torch.softmax(10 * s, -1) * s).sum(-1)
    return F.cross_entropy(along(k) * (scores - along(m) * F.one_hot(TARGET, CLASSES)), TARGET)


CASES = [
    Case(
        "triplet, batch-hard",
        BATCH | {"scale": (ROWS,), "margin": ()},
        lambda x, k, m: functional.triplet(x, LABELS, margin=m, scale=k),
        naive_soft_hard_triplet,
    ),
    Case(
        "triplet, hard form, all, swapped, euclidean",
        BATCH,
        lambda x: functional.triplet(
            x, LABELS, margin=0.3, form="hard", mining="all", swap=True, similarity="euclidean"
        ),
        naive_swapped_triplets,
    ),
    Case(
        "triplets given",
        {"anchor": (ROWS, 3), "positive": (ROWS, 3), "negative": (ROWS, 3), "scale": (ROWS,)},
        lambda a, p, n, k: functional.triplet_margin(a, p, n, margin=0.2, scale=k, similarity="euclidean"),
        lambda a, p, n, k: F.softplus(k * ((a - p).norm(dim=1) - (a - n).norm(dim=1) + 0.2)).mean(),
    ),
    Case(
        "info_nce, both directions, duplicates, a temperature per query",
        VIEWS | {"scale": (ROWS,)},
        lambda q, key, k: functional.info_nce(q, key, temperature=1 / wide(k), symmetric=True, ids=IDS),
        naive_info_nce,
    ),
    Case(
        "info_nce, negatives of each query, a mask and a margin",
        VIEWS | {"negatives": (ROWS, 2, FEATURES), "scale": (), "margin": ()},
        lambda q, key, n, k, m: functional.info_nce(q, key, scale=k, margin=m, negatives=n, mask=MASK),
        naive_own_negatives,
    ),
    Case(
        "nt_xent",
        VIEWS | {"scale": ()},
        lambda a, b, k: functional.nt_xent(a, b, scale=k),
        naive_nt_xent,
    ),
    Case(
        "info_nce of pairs",
        {"similarities": (ROWS, ROWS), "scale": (ROWS,)},
        lambda s, k: functional.info_nce_pairs(s, *functional.pair_masks(LABELS), scale=k),
        naive_info_nce_pairs,
    ),
    Case(
        "n_pair, squared distances",
        VIEWS | {"scale": ()},
        lambda f, g, k: functional.n_pair(f, g, scale=k, similarity="squared_euclidean"),
        lambda f, g, k: F.cross_entropy(-k * naive_distances(f, g), torch.arange(ROWS)),
    ),
    Case(
        "supcon, out",
        BATCH | {"scale": ()},
        lambda x, k: functional.supcon(x, LABELS, temperature=1 / wide(k)),
        naive_supcon,
    ),
    Case(
        "supcon, in, squared distances",
        BATCH | {"scale": (ROWS,)},
        lambda x, k: functional.supcon(x, LABELS, scale=k, form="in", similarity="squared_euclidean"),
        naive_supcon_in,
    ),
    Case(
        "nca against a memory",
        BATCH | {"memory": (CLASSES, FEATURES), "scale": ()},
        lambda x, r, k: functional.nca(x, LABELS, scale=k, reference=r, reference_target=MEMORY_LABELS),
        naive_nca,
    ),
    Case(
        "nca, probability, dot, sum",
        BATCH | {"scale": ()},
        lambda x, k: functional.nca(
            x, LABELS, scale=k, form="probability", similarity="dot", reduction="sum"
        ),
        naive_wrong_neighbours,
    ),
    Case(
        "circle, true gradient",
        BATCH | {"scale": (ROWS,), "margin": ()},
        lambda x, k, m: functional.circle(x, LABELS, scale=k, margin=m, detach=False),
        naive_circle,
    ),
    Case(
        "circle, unified",
        BATCH | {"scale": (), "margin": (ROWS,)},
        lambda x, k, m: functional.circle(x, LABELS, scale=k, margin=m, form="unified"),
        naive_circle_unified,
    ),
    Case(
        "lifted, euclidean",
        BATCH | {"margin": ()},
        lambda x, m: functional.lifted(x, LABELS, margin=m, similarity="euclidean"),
        naive_lifted,
    ),
    Case(
        "proxy_nca, over the others",
        PAIR | {"scale": (ROWS,)},
        lambda x, w, k: functional.proxy_nca(x, w, TARGET, scale=k, denominator="others"),
        naive_proxy_nca,
    ),
    Case(
        "proxy_anchor",
        PAIR | {"scale": (), "margin": ()},
        lambda x, w, k, m: functional.proxy_anchor(x, w, TARGET, scale=k, margin=m),
        naive_proxy_anchor,
    ),
    Case(
        "soft_triple",
        {"input": (ROWS, FEATURES), "prototypes": (CLASSES, 3, FEATURES), "scale": (ROWS,), "margin": ()},
        lambda x, w, k, m: functional.soft_triple(x, w, TARGET, scale=k, margin=m, sharpness=10.0),
        naive_soft_triple,
    ),
]
