"""How figures look: one code of colours, markers and hatches, and numbers written for people.

Colour says the device, marker and hatch say the precision; so no reading depends on colour alone.
Knows no figure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

Theme = Literal["light", "dark"]
Look = tuple[str, str | None]  # device and precision


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of one theme; those of the devices are Okabe and Ito's, safe for the colour-blind."""

    paper: str
    ink: str
    quiet: str
    rule: str
    cpu: str
    gpu: str
    npu: str

    def device(self, device: str) -> str:
        """Return the colour of a device, the quiet one when the device is unknown."""
        return {"cpu": self.cpu, "gpu": self.gpu, "npu": self.npu}.get(device, self.quiet)


PALETTES: dict[Theme, Palette] = {
    "light": Palette("#ffffff", "#1f2328", "#656d76", "#e4e7eb", "#0072b2", "#d55e00", "#009e73"),
    "dark": Palette("#16181c", "#e6e8eb", "#9aa2ac", "#33383f", "#56b4e9", "#e69f00", "#3fc9a0"),
}
MARKERS = {"int4": "o", "int8": "D", "fp16": "s", "fp32": "^"}
HATCHES = {"int4": "", "int8": "xxxx", "fp16": "....", "fp32": "////"}
PRECISIONS = tuple(HATCHES)  # in the order of legends, coarsest first
OTHER_MARKER, OTHER_HATCH = "P", "++++"


def swatch(colour: str, text: str) -> Patch:
    """Return a legend entry for a device: its colour."""
    return Patch(facecolor=colour, label=text, linewidth=0)


def shaped(precision: str | None, colour: str) -> Line2D:
    """Return a legend entry for a precision: its marker."""
    return mark(marker(precision), colour, precision or "precision unknown")


def hatched(precision: str | None, colour: str) -> Patch:
    """Return a legend entry for a precision: its hatch."""
    text = precision or "precision unknown"
    return Patch(facecolor="none", edgecolor=colour, hatch=hatch(precision), label=text)


def mark(shape: str, colour: str, text: str, *, filled: bool = True) -> Line2D:
    """Return a legend entry drawn as a marker."""
    return Line2D(
        [],
        [],
        linestyle="none",
        marker=shape,
        color=colour,
        markersize=6,
        label=text,
        markerfacecolor=colour if filled else "none",
        markeredgewidth=2.2 if shape == "|" else 1.0,
    )


def marker(precision: str | None) -> str:
    """Return the marker of a precision."""
    return MARKERS.get(precision or "", OTHER_MARKER)


def hatch(precision: str | None) -> str:
    """Return the hatch of a precision; int4 is plain."""
    return HATCHES.get(precision or "", OTHER_HATCH)


def number(value: float) -> str:
    """Write a number with two or three figures, for people; a count as it is.

    >>> [number(value) for value in (7, 0.1234, 9.876, 54.32, 987.6, 12345.6)]
    ['7', '0.12', '9.9', '54', '988', '12,346']
    """
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "not measured"
    decimals = 2 if abs(value) < 1 else 1 if abs(value) < 10 else 0
    return f"{value:,.{decimals}f}"
