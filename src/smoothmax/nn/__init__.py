"""Modules that hold prototypes, a scale or settings, and call `functional`."""

from smoothmax.nn._adaptive import AdaFaceHead, MagFaceHead
from smoothmax.nn._angular import MarginHead, SubCenterHead
from smoothmax.nn._contrastive import InfoNCELoss, NTXentLoss, SupConLoss
from smoothmax.nn._cosine import CosineHead
from smoothmax.nn._labelled import CircleLoss, LiftedLoss, NCALoss, TripletLoss
from smoothmax.nn._linear import LinearHead
from smoothmax.nn._lists import ApproxNDCGLoss, DistillationLoss, LambdaLoss, RankNetLoss, SmoothAPLoss
from smoothmax.nn._proxy import ProxyAnchorHead, ProxyHead, SoftTripleHead

__all__ = [
    "AdaFaceHead",
    "ApproxNDCGLoss",
    "CircleLoss",
    "CosineHead",
    "DistillationLoss",
    "InfoNCELoss",
    "LambdaLoss",
    "LiftedLoss",
    "LinearHead",
    "MagFaceHead",
    "MarginHead",
    "NCALoss",
    "NTXentLoss",
    "ProxyAnchorHead",
    "ProxyHead",
    "RankNetLoss",
    "SmoothAPLoss",
    "SoftTripleHead",
    "SubCenterHead",
    "SupConLoss",
    "TripletLoss",
]
