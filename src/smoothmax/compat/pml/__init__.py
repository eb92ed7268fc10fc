"""The losses of pytorch-metric-learning 2.9 under their names: same constructor, call, values and state."""

from smoothmax.compat.pml._cosines import (
    ArcFaceLoss,
    CosFaceLoss,
    NormalizedSoftmaxLoss,
    SubCenterArcFaceLoss,
)
from smoothmax.compat.pml._lengths import LargeMarginSoftmaxLoss, SphereFaceLoss
from smoothmax.compat.pml._pairs import CircleLoss, NCALoss, NTXentLoss, SupConLoss, TripletMarginLoss
from smoothmax.compat.pml._proxies import ProxyAnchorLoss, ProxyNCALoss, SoftTripleLoss

__all__ = [
    "ArcFaceLoss",
    "CircleLoss",
    "CosFaceLoss",
    "LargeMarginSoftmaxLoss",
    "NCALoss",
    "NTXentLoss",
    "NormalizedSoftmaxLoss",
    "ProxyAnchorLoss",
    "ProxyNCALoss",
    "SoftTripleLoss",
    "SphereFaceLoss",
    "SubCenterArcFaceLoss",
    "SupConLoss",
    "TripletMarginLoss",
]
