"""A figure as SVG that may stand in the page: coloured by its variables, ids of its own, text as text."""

import io
import re
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from smoothmax.lab.report.palette import STAND_IN

#: What the bytes depend on: no date, no version, the same ids for the same picture.
_STYLE: dict[Any, object] = {"svg.fonttype": "none", "svg.hashsalt": "smoothmax", "path.simplify": False}
_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_FONT = re.compile(r"font: (\d{3} )?([\d.]+)px [^;]*")
_NUMBER = re.compile(r"-?\d+\.\d+")
_REFERENCE = re.compile(r"#([\w-]+)")
_HREF = "{http://www.w3.org/1999/xlink}href"
_GEOMETRY = ("d", "x", "y", "width", "height", "transform", "viewBox", "points")


def inline(figure: Figure, *, name: str, title: str) -> str:
    """The figure as an `<svg>` element.

    Args:
        figure: drawn with the colours of `palette.STAND_IN`.
        name: prefix of every id in it, unique on the page.
        title: what a screen reader says instead.
    """
    root = ElementTree.fromstring(_saved(figure))
    used = {found for element in root.iter() for found in _references(element)}
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        _clean(element, name, used)
    for unwanted in root.findall("metadata"):
        root.remove(unwanted)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    label = ElementTree.Element("title", id=f"{name}-title")
    label.text = title
    root.insert(0, label)
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title"}
    return _without_blanks(ElementTree.tostring(root, encoding="unicode"))


def _saved(figure: Figure) -> str:
    FigureCanvasSVG(figure)
    stream = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(stream, format="svg", metadata=_METADATA, transparent=True)
    return stream.getvalue()


def _references(element: ElementTree.Element) -> list[str]:
    return [found for value in _pointers(element) for found in _REFERENCE.findall(value)]


def _pointers(element: ElementTree.Element) -> list[str]:
    """Attribute values that point to an id; colours start with # too, but only after a colon."""
    return [value for key, value in element.attrib.items() if key == _HREF or value.startswith("url(#")]


def _clean(element: ElementTree.Element, name: str, used: set[str]) -> None:
    attributes = {}
    for key, value in element.attrib.items():
        if key == "id" and value not in used:
            continue
        if key == "id":
            value = f"{name}-{value}"
        elif key == _HREF or value.startswith("url(#"):
            key, value = key.rpartition("}")[2], value.replace("#", f"#{name}-", 1)
        elif key == "style":
            value = _style(value)
        elif key in _GEOMETRY:
            value = _NUMBER.sub(_shorter, value)
        attributes[key] = " ".join(value.split())
    element.attrib.clear()
    element.attrib.update(attributes)


def _style(text: str) -> str:
    for role, colour in STAND_IN.items():
        text = text.replace(colour, f"var(--{role})")
    return _FONT.sub(lambda m: f"font-size: {m[2]}px" + (f"; font-weight: {m[1]}" if m[1] else ""), text)


def _shorter(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _without_blanks(text: str) -> str:
    return re.sub(r">\s+<", "><", text)
