"""The knob of every operator: sharpness, temperature or tolerance, and the family it belongs to."""

from torch import Tensor

from smoothmax._checks import check_one_of, check_positive
from smoothmax.families import Family

FamilyLike = Family | type[Family]
Knob = float | Tensor | None


def choose_family(
    family: FamilyLike, n: int, *, sharpness: Knob, temperature: Knob, tolerance: Knob
) -> Family:
    """The family instance that an operator's arguments name.

    Args:
        family: an instance, which brings its own parameter, or a class, which takes the knob.
        n: number of entries that one result is made of; `tolerance` needs it.
        sharpness: in 1/units of x.
        temperature: 1/sharpness, in units of x.
        tolerance: largest distance to the hard operator, in units of x.
    """
    knobs = {"sharpness": sharpness, "temperature": temperature, "tolerance": tolerance}
    if isinstance(family, Family):
        given = [name for name, value in knobs.items() if value is not None]
        if given:
            raise ValueError(
                f"`family` must be a class when `{given[0]}=` is given, got {family!r}, which has its own "
                f"parameter. Pass family={type(family).__name__}, or leave `{given[0]}=` out."
            )
        return family
    if not (isinstance(family, type) and issubclass(family, Family)):
        raise TypeError(
            f"`family` must be a Family or a class of them, got {family!r}. Try family=LogSumExp."
        )
    chosen = check_one_of(**knobs)
    if chosen == "sharpness":
        return family.for_sharpness(sharpness)  # type: ignore[arg-type]
    if chosen == "temperature":
        way_out = "It is 1/sharpness."
        check_positive("temperature", temperature, way_out, allow_inf=False)  # type: ignore[arg-type]
        return family.for_sharpness(1 / temperature)  # type: ignore[operator]
    return family.for_gap(tolerance, max(n, 1))  # type: ignore[arg-type]
