"""Heads as other repositories publish them, written from their formulas: right and wrong as they are.

All hold one row of weights per class and return logits unless they say otherwise.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Head(nn.Module):
    """Class weights, a scale and a margin."""

    def __init__(
        self, features: int = 16, classes: int = 10, *, scale: float = 64.0, margin: float = 0.5
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, features))
        self.scale, self.margin = scale, margin

    def cosines(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(x), F.normalize(self.weight))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        cosines = self.cosines(x)
        hit = F.one_hot(y, cosines.shape[1]).to(cosines.dtype)
        return self.scale * (hit * self.target(cosines) + (1 - hit) * cosines)

    def target(self, cosines: Tensor) -> Tensor:
        """F of every cosine; the one-hot mask keeps the target's."""
        raise NotImplementedError


class AdditiveMargin(Head):
    """CosFace of face.evoLVe, FaceX-Zoo, WeSpeaker: cos - m."""

    def target(self, cosines):
        return cosines - self.margin


class SineArcFace(Head):
    """cos(theta + m) by the addition theorem, with sqrt(1 - c^2), as nearly everybody has it."""

    def raised(self, cosines):
        return cosines * math.cos(self.margin) - (1 - cosines**2).sqrt() * math.sin(self.margin)


class EvolveArcFace(SineArcFace):
    """face.evoLVe and OML: past pi - m, cos - m sin m."""

    def target(self, cosines):
        beyond = cosines - self.margin * math.sin(self.margin)
        return torch.where(cosines > math.cos(math.pi - self.margin), self.raised(cosines), beyond)


class OmlArcFace(EvolveArcFace):
    """OML: the same, but the module returns the loss."""

    def forward(self, x, y):
        return F.cross_entropy(super().forward(x, y), y)


class FaceXArcFace(SineArcFace):
    """FaceX-Zoo at margin_am = 0: past pi - m, the cosine itself; weights are (features, classes)."""

    def __init__(self, features=16, classes=10):
        super().__init__(classes, features, margin=0.35)

    def cosines(self, x):
        return F.normalize(x) @ F.normalize(self.weight, dim=0)

    def target(self, cosines):
        return torch.where(cosines > math.cos(math.pi - self.margin), self.raised(cosines), cosines)


class WeSpeakerArcMargin(SineArcFace):
    """WeSpeaker: past pi - m, cos - (1 + cos(pi - m)), which is continuous."""

    def __init__(self):
        super().__init__(scale=32.0, margin=0.2)

    def target(self, cosines):
        beyond = cosines - (1 + math.cos(math.pi - self.margin))
        return torch.where(cosines > math.cos(math.pi - self.margin), self.raised(cosines), beyond)


class MagFace(Head):
    """MagFace with easy margin: no margin where cos <= 0; m grows with the length. Returns a pair."""

    def forward(self, x, y):
        length = x.norm(dim=1, keepdim=True).clamp(10, 110)
        margin = (0.8 - 0.45) / (110 - 10) * (length - 10) + 0.45
        cosines = self.cosines(x)
        raised = cosines * margin.cos() - (1 - cosines**2).sqrt() * margin.sin()
        raised = torch.where(cosines > 0, raised, cosines)
        hit = F.one_hot(y, cosines.shape[1])
        return self.scale * (hit * raised + (1 - hit) * cosines), (length / 110**2 + 1 / length).mean()


class SpeechBrainHead(nn.Module):
    """SpeechBrain's additive angular margin on cosines with a one-hot target; in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 16))
        self.scale, self.margin = 30.0, 0.2

    def forward(self, cosines, hit):
        cosines = cosines.float().clamp(-1 + 1e-7, 1 - 1e-7)
        raised = cosines * math.cos(self.margin) - (1 - cosines**2).sqrt() * math.sin(self.margin)
        beyond = cosines - self.margin * math.sin(self.margin)
        raised = torch.where(cosines > math.cos(math.pi - self.margin), raised, beyond)
        return self.scale * (hit * raised + (1 - hit) * cosines)


def speechbrain_loss(module, x, y):
    cosines = F.linear(F.normalize(x), F.normalize(module.weight))
    return F.cross_entropy(module(cosines, F.one_hot(y, 10)), y)


class AcosHead(Head):
    """Heads that go through acos, and divide by lengths without an eps."""

    def cosines(self, x):
        x, w = (v / v.norm(dim=1, keepdim=True) for v in (x, self.weight))
        return F.linear(x, w)


class AdaFaceRepositoryArcFace(AcosHead):
    """AdaFace's repository: cosines clamped to 1 - 1e-4, theta + m clipped at pi - 1e-4."""

    def cosines(self, x):
        return super().cosines(x).clamp(-1 + 1e-4, 1 - 1e-4)

    def target(self, cosines):
        return (cosines.acos() + self.margin).clamp(1e-4, math.pi - 1e-4).cos()


class ElasticFace(AcosHead):
    """A margin drawn anew for each row, and cos(theta + m) wherever that lies."""

    def cosines(self, x):
        return super().cosines(x).clamp(-1, 1)

    def forward(self, x, y):
        angles = self.cosines(x).acos()
        margin = torch.normal(self.margin, 0.0125, (len(y), 1), device=x.device)
        return self.scale * (angles + margin * F.one_hot(y, angles.shape[1])).cos()


class AdaFace(Head):
    """A margin from the length of a row against the running mean and deviation of lengths."""

    def __init__(self) -> None:
        super().__init__(margin=0.4)
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("deviation", torch.tensor(100.0))

    def forward(self, unit, length, y):
        cosines = F.linear(unit, F.normalize(self.weight)).clamp(-1 + 1e-3, 1 - 1e-3)
        length = length.clamp(0.001, 100).detach()
        with torch.no_grad():
            # A running mean that keeps nothing of the past, as the repository has it; 0 * nan is nan.
            self.mean.copy_(length.mean() + 0 * self.mean)
            self.deviation.copy_(length.std() + 0 * self.deviation)
        quality = ((length - self.mean) / (self.deviation + 1e-3) * 0.333).clamp(-1, 1)
        hit = F.one_hot(y, 10)
        angles = (cosines.acos() - self.margin * quality * hit).clamp(1e-3, math.pi - 1e-3)
        return self.scale * (angles.cos() - self.margin * (1 + quality) * hit)


def adaface_loss(module, x, y):
    length = x.norm(dim=1, keepdim=True)
    return F.cross_entropy(module(x / length, length, y), y)


class InsightFaceMargin(nn.Module):
    """insightface's ArcFace on cosines: autograd sees the identity where the value is cos(theta + m)."""

    def __init__(self, scale=64.0, margin=0.5):
        super().__init__()
        self.scale, self.margin = scale, margin

    def forward(self, cosines, y):
        hit = F.one_hot(y, cosines.shape[1]).bool()
        with torch.no_grad():
            raised = (cosines.acos() + self.margin * hit).cos()
        return self.scale * (cosines + (raised - cosines).detach())


class ClampedCrossEntropy(torch.autograd.Function):
    """-ln max(p, 1e-30), with the gradient of -ln p."""

    @staticmethod
    def forward(ctx, logits, y):
        p = logits.softmax(1)
        ctx.save_for_backward(p, y)
        return -p.gather(1, y[:, None]).clamp_min(1e-30).log().mean()

    @staticmethod
    def backward(ctx, out):
        p, y = ctx.saved_tensors
        return out * (p - F.one_hot(y, p.shape[1])) / len(y), None


class InsightFaceHead(Head):
    """The whole of insightface's: normalise, clamp, margin, clamped cross-entropy."""

    def __init__(self):
        super().__init__()
        self.margin_softmax = InsightFaceMargin()

    def forward(self, x, y):
        return ClampedCrossEntropy.apply(self.margin_softmax(self.cosines(x).clamp(-1, 1), y), y)


class AdaCos(Head):
    """pytorch-adacos: the scale is a plain attribute, renewed at every batch."""

    def __init__(self):
        super().__init__(scale=math.sqrt(2) * math.log(9))

    def forward(self, x, y):
        cosines = self.cosines(x)
        with torch.no_grad():
            hit = F.one_hot(y, cosines.shape[1]).bool()
            others = torch.where(hit, 0, (self.scale * cosines).exp()).sum() / len(y)
            median = cosines[hit].clamp(-1, 1).acos().median()
            self.scale = others.log() / median.clamp(max=math.pi / 4).cos()
        return self.scale * cosines


class SphereFace2(Head):
    """A logistic loss per class through log(1 + exp(x)), which overflows."""

    def __init__(self, scale):
        super().__init__(scale=scale, margin=0.2)

    def forward(self, x, y):
        cosines = self.cosines(x)
        sign = 1 - 2 * F.one_hot(y, cosines.shape[1])
        return (1 + (self.scale * (sign * cosines + self.margin)).exp()).log().sum(1).mean()


class LearnedScale(Head):
    """A scale that is a parameter: as it is, as a logarithm, or bounded."""

    def __init__(self, form):
        super().__init__()
        self.form = form
        self.logit_scale = nn.Parameter(torch.tensor(20.0 if form == "plain" else 3.0))

    def forward(self, x, y):
        s = self.logit_scale
        scale = {"plain": lambda: s, "logarithm": s.exp, "bounded": lambda: s.clamp(0, math.log(100)).exp()}
        return scale[self.form]() * self.cosines(x)
