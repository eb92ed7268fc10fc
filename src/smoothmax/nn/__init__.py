"""Modules that hold prototypes, a scale or settings, and call `functional`."""

from smoothmax.nn._adaptive import AdaFaceHead, MagFaceHead
from smoothmax.nn._angular import MarginHead, SubCenterHead
from smoothmax.nn._chain import LSEHingeLoss, MulticlassHingeLoss, SoftmaxCrossEntropyLoss, SoftplusLSELoss
from smoothmax.nn._contrastive import InfoNCELoss, NPairLoss, NTXentLoss, SupConLoss
from smoothmax.nn._cosine import CosineHead
from smoothmax.nn._labelled import CircleLoss, LiftedLoss, NCALoss, TripletLoss
from smoothmax.nn._linear import LinearHead
from smoothmax.nn._lists import (
    ApproxNDCGLoss,
    DistillationLoss,
    LambdaLoss,
    RankNetLoss,
    SmoothAPLoss,
    SmoothRecallLoss,
)
from smoothmax.nn._norms import FeatureIncay, L2Constrained, RingLoss, SoftCap, ZLoss
from smoothmax.nn._proxy import ProxyAnchorHead, ProxyHead, SoftTripleHead

__all__ = [
    "AdaFaceHead",
    "ApproxNDCGLoss",
    "CircleLoss",
    "CosineHead",
    "DistillationLoss",
    "FeatureIncay",
    "InfoNCELoss",
    "L2Constrained",
    "LSEHingeLoss",
    "LambdaLoss",
    "LiftedLoss",
    "LinearHead",
    "MagFaceHead",
    "MarginHead",
    "MulticlassHingeLoss",
    "NCALoss",
    "NPairLoss",
    "NTXentLoss",
    "ProxyAnchorHead",
    "ProxyHead",
    "RankNetLoss",
    "RingLoss",
    "SmoothAPLoss",
    "SmoothRecallLoss",
    "SoftCap",
    "SoftTripleHead",
    "SoftmaxCrossEntropyLoss",
    "SoftplusLSELoss",
    "SubCenterHead",
    "SupConLoss",
    "TripletLoss",
    "ZLoss",
]
