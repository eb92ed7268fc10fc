"""Modules that hold no prototypes, or compare them with a whole batch: each equals its function."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from _contract.case import CLASSES, FEATURES, ROWS, TARGET
from _contract.pairs import LABELS
from smoothmax import functional
from smoothmax.nn import (
    ApproxNDCGLoss,
    CircleLoss,
    DistillationLoss,
    FeatureIncay,
    InfoNCELoss,
    L2Constrained,
    LambdaLoss,
    LiftedLoss,
    LSEHingeLoss,
    MulticlassHingeLoss,
    NCALoss,
    NPairLoss,
    NTXentLoss,
    ProxyAnchorHead,
    RankNetLoss,
    RingLoss,
    SmoothAPLoss,
    SmoothRecallLoss,
    SoftCap,
    SoftmaxCrossEntropyLoss,
    SoftplusLSELoss,
    SupConLoss,
    TripletLoss,
    ZLoss,
)

#: One list of items per row.
RELEVANCE = torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1], [1, 0, 1, 0]])
#: Of scores as many as features.
OF_FOUR = torch.tensor([3, 1, -100, 0, 2, 1])
FOUR_WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 1.5])
CORRECT = torch.tensor([True, False, True, True, True, False])


@dataclass(frozen=True)
class ModuleCase:
    """One module with one setting.

    Attributes:
        name: in the names of tests.
        make: the module.
        inputs: how many matrices of rows it is called with.
        target: what it is called with after them, or nothing.
        function: the same of the matrices and the module's parameters.
        keys: the documented keys of its state.
        shown: its representation.
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: int
    target: Tensor | None
    function: Callable[..., Tensor]
    shown: str
    keys: tuple[str, ...] = ()

    def rows(self, dtype: torch.dtype = torch.float64, rows: int = ROWS) -> list[Tensor]:
        """Seeded rows with gradients, rounded to `dtype`."""
        generator = torch.Generator().manual_seed(len(self.name))
        drawn = (
            torch.randn(rows, FEATURES, generator=generator, dtype=torch.float64) for _ in range(self.inputs)
        )
        return [x.to(dtype).requires_grad_() for x in drawn]

    def call(self, module: nn.Module, rows: list[Tensor]) -> Tensor:
        """The loss of rows; the sum of what comes out where that is no loss but features or scores."""
        return (module(*rows) if self.target is None else module(*rows, self.target)).sum()

    def __str__(self) -> str:
        return self.name


MODULES = [
    ModuleCase(
        "info_nce",
        lambda: InfoNCELoss(temperature=0.125, margin=0.1),
        2,
        None,
        lambda q, k: functional.info_nce(q, k, scale=8.0, margin=0.1),
        "InfoNCELoss(scale=8, margin=0.1)",
    ),
    ModuleCase(
        "info_nce, learned, symmetric",
        lambda: InfoNCELoss(scale=8.0, learned=True, symmetric=True),
        2,
        None,
        lambda q, k, w: functional.info_nce(q, k, scale=w[0].exp(), symmetric=True),
        "InfoNCELoss(scale=8, learned=True, symmetric=True)",
        ("log_scale", "_extra_state"),
    ),
    ModuleCase(
        "nt_xent, learned",
        lambda: NTXentLoss(temperature=0.5, learned=True, max_scale=20.0, similarity="dot"),
        2,
        None,
        lambda a, b, w: functional.nt_xent(a, b, scale=w[0].exp(), similarity="dot"),
        "NTXentLoss(scale=2, learned=True, max_scale=20, similarity=dot)",
        ("log_scale", "_extra_state"),
    ),
    ModuleCase(
        "supcon, learned, in",
        lambda: SupConLoss(scale=4.0, form="in", learned=True, reduction="sum"),
        1,
        LABELS,
        lambda x, w: functional.supcon(x, LABELS, scale=w[0].exp(), form="in", reduction="sum"),
        "SupConLoss(scale=4, learned=True, form=in, reduction=sum)",
        ("log_scale", "_extra_state"),
    ),
    ModuleCase(
        "supcon",
        lambda: SupConLoss(temperature=0.1, ignore_index=1),
        1,
        LABELS,
        lambda x: functional.supcon(x, LABELS, temperature=0.1, ignore_index=1),
        "SupConLoss(scale=10, ignore_index=1)",
    ),
    ModuleCase(
        "nca",
        lambda: NCALoss(scale=6.0, form="probability"),
        1,
        LABELS,
        lambda x: functional.nca(x, LABELS, scale=6.0, form="probability"),
        "NCALoss(scale=6, form=probability)",
    ),
    ModuleCase(
        "circle",
        lambda: CircleLoss(scale=16.0, margin=0.25, detach=False),
        1,
        LABELS,
        lambda x: functional.circle(x, LABELS, scale=16.0, margin=0.25, detach=False),
        "CircleLoss(scale=16, margin=0.25, detach=False)",
    ),
    ModuleCase(
        "lifted",
        lambda: LiftedLoss(margin=0.5, similarity="euclidean"),
        1,
        LABELS,
        lambda x: functional.lifted(x, LABELS, margin=0.5, similarity="euclidean"),
        "LiftedLoss(margin=0.5, similarity=euclidean)",
    ),
    ModuleCase(
        "triplet",
        lambda: TripletLoss(margin=0.2, scale=3.0, mining="all", swap=True),
        1,
        LABELS,
        lambda x: functional.triplet(x, LABELS, margin=0.2, scale=3.0, mining="all", swap=True),
        "TripletLoss(scale=3, margin=0.2, mining=all, swap=True)",
    ),
    ModuleCase(
        "ranknet",
        lambda: RankNetLoss(scale=2.0, pairs="sum"),
        1,
        RELEVANCE,
        lambda x: functional.ranknet(x, RELEVANCE, scale=2.0, pairs="sum"),
        "RankNetLoss(scale=2, pairs=sum)",
    ),
    ModuleCase(
        "lambda_loss",
        lambda: LambdaLoss(weighting="ndcg_loss2", scale=3.0, k=2),
        1,
        RELEVANCE,
        lambda x: functional.lambda_loss(x, RELEVANCE, weighting="ndcg_loss2", scale=3.0, k=2),
        "LambdaLoss(weighting=ndcg_loss2, scale=3, k=2)",
    ),
    ModuleCase(
        "approx_ndcg",
        lambda: ApproxNDCGLoss(temperature=0.5, gain="linear"),
        1,
        RELEVANCE,
        lambda x: functional.approx_ndcg(x, RELEVANCE, scale=2.0, gain="linear"),
        "ApproxNDCGLoss(scale=2, gain=linear)",
    ),
    ModuleCase(
        "smooth_ap",
        lambda: SmoothAPLoss(scale=2.0),
        1,
        RELEVANCE,
        lambda x: functional.smooth_ap(x, RELEVANCE, scale=2.0),
        "SmoothAPLoss(scale=2)",
    ),
    ModuleCase(
        "distillation",
        lambda: DistillationLoss(temperature=2.0, divergence="jensen-shannon", square_temperature=False),
        2,
        None,
        lambda a, b: functional.distillation(
            a, b, temperature=2.0, divergence="jensen-shannon", square_temperature=False
        ),
        "DistillationLoss(temperature=2, divergence=jensen-shannon, square_temperature=False)",
    ),
    ModuleCase(
        "proxy_anchor",
        lambda: ProxyAnchorHead(FEATURES, CLASSES, scale=12.0, margin=0.2, ignore_index=2),
        1,
        TARGET,
        lambda x, w: functional.proxy_anchor(x, w, TARGET, scale=12.0, margin=0.2, ignore_index=2),
        "ProxyAnchorHead(4, 5, scale=12, margin=0.2)",
        ("prototypes",),
    ),
    ModuleCase(
        "smooth_recall",
        lambda: SmoothRecallLoss(k=(1, 2), temperature=0.5, cut_temperature=0.75),
        1,
        RELEVANCE,
        lambda x: functional.smooth_recall(x, RELEVANCE, k=(1, 2), scale=2.0, cut_temperature=0.75),
        "SmoothRecallLoss(k=(1, 2), scale=2, cut_temperature=0.75)",
    ),
    ModuleCase(
        "n_pair",
        lambda: NPairLoss(scale=2.0, similarity="cosine"),
        2,
        None,
        lambda a, b: functional.n_pair(a, b, scale=2.0, similarity="cosine"),
        "NPairLoss(scale=2, similarity=cosine)",
    ),
    ModuleCase(
        "softmax_cross_entropy",
        lambda: SoftmaxCrossEntropyLoss(scale=2.0, margin=0.5, weight=FOUR_WEIGHTS, label_smoothing=0.1),
        1,
        OF_FOUR,
        lambda x: functional.softmax_cross_entropy(
            x, OF_FOUR, scale=2.0, margin=0.5, weight=FOUR_WEIGHTS, label_smoothing=0.1
        ),
        "SoftmaxCrossEntropyLoss(scale=2, margin=0.5, label_smoothing=0.1, weight=(4 classes))",
        ("weight",),
    ),
    ModuleCase(
        "softplus_lse",
        lambda: SoftplusLSELoss(scale=2.0, margin=0.5),
        1,
        OF_FOUR,
        lambda x: functional.softplus_lse(x, OF_FOUR, scale=2.0, margin=0.5),
        "SoftplusLSELoss(scale=2, margin=0.5)",
    ),
    ModuleCase(
        "lse_hinge",
        lambda: LSEHingeLoss(scale=2.0, margin=9.0, reduction="sum"),
        1,
        OF_FOUR,
        lambda x: functional.lse_hinge(x, OF_FOUR, scale=2.0, margin=9.0, reduction="sum"),
        "LSEHingeLoss(scale=2, margin=9, reduction=sum)",
    ),
    ModuleCase(
        "multiclass_hinge",
        lambda: MulticlassHingeLoss(margin=0.5, weight=FOUR_WEIGHTS),
        1,
        OF_FOUR,
        lambda x: functional.multiclass_hinge(x, OF_FOUR, margin=0.5, weight=FOUR_WEIGHTS),
        "MulticlassHingeLoss(margin=0.5, weight=(4 classes))",
        ("weight",),
    ),
    ModuleCase(
        "feature_incay",
        lambda: FeatureIncay(eps=0.25),
        1,
        CORRECT,
        lambda x: functional.feature_incay(x, CORRECT, eps=0.25),
        "FeatureIncay(eps=0.25)",
    ),
    ModuleCase(
        "ring_loss",
        lambda: RingLoss(3.0),
        1,
        None,
        lambda x, radius: functional.ring_loss(x, radius[0]),
        "RingLoss(radius=3)",
        ("radius",),
    ),
    ModuleCase(
        "ring_loss, fixed",
        lambda: RingLoss(3.0, learned=False, reduction="sum"),
        1,
        None,
        lambda x: functional.ring_loss(x, 3.0, reduction="sum"),
        "RingLoss(radius=3, learned=False, reduction=sum)",
    ),
    ModuleCase(
        "l2_constrained",
        lambda: L2Constrained(16.0),
        1,
        None,
        lambda x: functional.l2_constrained(x, scale=16.0).sum(),
        "L2Constrained(scale=16)",
    ),
    ModuleCase(
        "l2_constrained, learned",
        lambda: L2Constrained(2.0, learned=True),
        1,
        None,
        lambda x, w: functional.l2_constrained(x, scale=w[0].exp()).sum(),
        "L2Constrained(scale=2, learned=True)",
        ("log_scale",),
    ),
    ModuleCase(
        "z_loss",
        lambda: ZLoss(reduction="sum"),
        1,
        None,
        lambda x: functional.z_loss(x, reduction="sum"),
        "ZLoss(reduction=sum)",
    ),
    ModuleCase(
        "soft_cap",
        lambda: SoftCap(1.5),
        1,
        None,
        lambda x: functional.soft_cap(x, cap=1.5).sum(),
        "SoftCap(cap=1.5)",
    ),
]
