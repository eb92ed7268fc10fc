"""Their softmax losses of cosines: NormalizedSoftmax, CosFace, ArcFace, ArcFace with sub-centres."""

import math
from typing import Unpack

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smoothmax import functional
from smoothmax._checks import check_count, check_not_negative, check_number, check_positive
from smoothmax.compat.pml._loss import ClassLoss
from smoothmax.compat.pml._options import ClassOptions


class NormalizedSoftmaxLoss(ClassLoss):
    """Their NormalizedSoftmaxLoss: `functional.normface` at scale 1/temperature.

    Args:
        num_classes: C.
        embedding_size: D.
        temperature: 1/s > 0.
        kwargs: theirs: `distance`, `reducer`, `weight_init_func`, regularizers and their weights; what is
            taken of each is said in `docs/api/compat.md`.

    Keys of the state: `W` (D, C), as theirs.

    Source:
        [Wang2017] eq. 6.
    """

    shown = ("temperature",)

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        temperature: float = 0.05,
        **kwargs: Unpack[ClassOptions],
    ) -> None:
        super().__init__(num_classes, embedding_size, kwargs)
        check_positive("temperature", temperature, "It is 1/scale: 0.05 is a scale of 20.", allow_inf=False)
        self.temperature = float(temperature)

    def logits(self, x: Tensor) -> Tensor:
        """Cosines over the temperature."""
        return functional.cosines(x, self.prototypes) / self.temperature

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of each row."""
        return functional.normface(x, self.prototypes, y, scale=1 / self.temperature, reduction="none")


class _Scaled(ClassLoss):
    """A loss whose logits are cosines times a scale."""

    shown = ("margin", "scale")
    margin: float

    def _set_scale(self, scale: float) -> None:
        check_positive("scale", scale, "smoothmax.scale_for(num_classes) computes one.", allow_inf=False)
        self.scale = float(scale)

    def logits(self, x: Tensor) -> Tensor:
        """Cosines times the scale."""
        return functional.cosines(x, self.prototypes) * self.scale


class CosFaceLoss(_Scaled):
    """Their CosFaceLoss: `functional.cosface`.

    Args:
        num_classes: C.
        embedding_size: D.
        margin: m >= 0 in cosine units.
        scale: s > 0.
        kwargs: as for `NormalizedSoftmaxLoss`.

    Keys of the state: `W` (D, C), as theirs.

    Source:
        [Wang2018a] eq. 4.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 0.35,
        scale: float = 64,
        **kwargs: Unpack[ClassOptions],
    ) -> None:
        super().__init__(num_classes, embedding_size, kwargs)
        check_not_negative("margin", margin, "It is a difference of cosines, usually 0.1 to 0.4.")
        self.margin = float(margin)
        self._set_scale(scale)

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of each row."""
        return functional.cosface(
            x, self.prototypes, y, scale=self.scale, margin=self.margin, reduction="none"
        )


class ArcFaceLoss(_Scaled):
    """Their ArcFaceLoss: `functional.arcface`, variant "m_sin_m".

    Past theta = pi - m it has cos(theta) - m sin m, a jump as in theirs; `nn.MarginHead` has none.

    Args:
        num_classes: C.
        embedding_size: D.
        margin: m in degrees, 0 <= m < 180, converted here; the attribute `margin` is in radians, as theirs.
        scale: s > 0.
        kwargs: as for `NormalizedSoftmaxLoss`.

    Keys of the state: `W` (D, C), as theirs.

    Source:
        [Deng2019] eq. 3. Differs: finite gradients at cos = +-1, where theirs are nan.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 28.6,
        scale: float = 64,
        **kwargs: Unpack[ClassOptions],
    ) -> None:
        super().__init__(num_classes, embedding_size, kwargs)
        self._set_degrees(margin)
        self._set_scale(scale)

    def _set_degrees(self, margin: float) -> None:
        check_number("margin", margin)
        if not 0 <= margin < 180:
            raise ValueError(
                f"`margin` must be an angle in degrees, 0 <= margin < 180, got {margin!r}. "
                "Radians are math.degrees(radians)."
            )
        self.margin = math.radians(margin)

    def told(self, name: str) -> float:
        """The margin in degrees, as the constructor takes it."""
        return math.degrees(self.margin) if name == "margin" else super().told(name)

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of each row."""
        return functional.arcface(
            x,
            self.prototypes,
            y,
            scale=self.scale,
            margin=self.margin,
            variant="m_sin_m",
            reduction="none",
        )


class SubCenterArcFaceLoss(ArcFaceLoss):
    """Their SubCenterArcFaceLoss: `ArcFaceLoss` with several centres for each class, the nearest counting.

    Args:
        num_classes: C.
        embedding_size: D.
        margin: as for `ArcFaceLoss`, in degrees.
        scale: s > 0.
        sub_centers: K >= 1.
        kwargs: as for `NormalizedSoftmaxLoss`.

    Keys of the state: `W` (D, C K), as theirs: the centres of one class next to one another.

    Source:
        [Deng2020] sec. 3.2.
    """

    shown = ("margin", "scale", "sub_centers")

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 28.6,
        scale: float = 64,
        sub_centers: int = 3,
        **kwargs: Unpack[ClassOptions],
    ) -> None:
        check_count("sub_centers", sub_centers, 1, "It is the number of centres of a class.")
        super(_Scaled, self).__init__(num_classes, embedding_size, kwargs, centers=sub_centers)
        self._set_degrees(margin)
        self._set_scale(scale)
        self.sub_centers = sub_centers

    @torch.no_grad()
    def get_outliers(
        self,
        embeddings: Float[Tensor, "rows features"],
        labels: Int[Tensor, " rows"],
        threshold: float = 75,
        return_dominant_centers: bool = True,
    ) -> tuple[Tensor, Tensor] | Tensor:
        """Rows farther than an angle from the centre that most rows of their class are nearest to.

        Args:
            embeddings: one row each.
            labels: one class index per row.
            threshold: an angle in degrees.
            return_dominant_centers: whether to return those centres too; theirs always does.

        Returns:
            Indices of rows, ordered by class; and the centres (D, C), the first one of a class without rows.
        """
        centers = self.prototypes
        own = functional.cosines(embeddings, centers.flatten(0, 1)).unflatten(1, centers.shape[:2])
        own = own[torch.arange(len(labels), device=labels.device), labels]
        votes = torch.zeros_like(centers[..., 0]).index_put(
            (labels, own.argmax(1)), torch.ones_like(own[:, 0]).to(centers), accumulate=True
        )
        dominant = votes.argmax(1)
        far = own.gather(1, dominant[labels].unsqueeze(1)).squeeze(1) < math.cos(math.radians(threshold))
        order = labels.argsort(stable=True)
        outliers = order[far[order]]
        if not return_dominant_centers:
            return outliers
        return outliers, centers[torch.arange(len(centers), device=labels.device), dominant].mT
