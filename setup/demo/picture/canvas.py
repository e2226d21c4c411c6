"""Where a page is drawn: pixels from the top left, in the colours of Grafana's dark theme."""

from bisect import bisect
from dataclasses import dataclass
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch
from PIL import Image

GROUND, PANEL, RAISED = "#111217", "#181B1F", "#22252B"
BORDER, GRID = "#2C2F36", "#2A2D33"
TEXT, MUTED, LINK = "#CCCCDC", "#9596A2", "#6E9FFF"
FONT = "DejaVu Sans"
"""Ships with matplotlib, so that a picture looks the same on any machine."""
SMALL, NORMAL, LARGE = 12.0, 13.0, 16.0

_DOTS, _POINTS = 100.0, 72.0
"""In an inch: pixels of the page, points of a font."""
_ZOOM = 1.2
"""Dots of the picture in a pixel of the page, so that small text can be read."""


@dataclass(frozen=True, slots=True)
class Box:
    """A part of the page, in pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    def inside(self, left: float, top: float, right: float, bottom: float) -> "Box":
        """Return what is left within margins."""
        return Box(
            self.x + left, self.y + top, self.width - left - right, self.height - top - bottom
        )


class Canvas:
    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        dots = _DOTS * _ZOOM
        self.figure = Figure((width / _DOTS, height / _DOTS), dots, facecolor=GROUND)
        FigureCanvasAgg(self.figure)
        self._renderer = RendererAgg(1, 1, dots)  # type: ignore[no-untyped-call]
        # Boxes lie under the axes of plots, texts above them.
        self.ground, self.ink = (self._layer(zorder) for zorder in (-1, 1))

    def _layer(self, zorder: float) -> Axes:
        axes = self.axes(Box(0, 0, self.width, self.height))
        axes.set(xlim=(0, self.width), ylim=(self.height, 0), zorder=zorder)
        axes.set_axis_off()
        return axes

    def axes(self, box: Box) -> Axes:
        """Return axes that fill a box, without frame and marks."""
        place = (
            box.x / self.width,
            1 - box.bottom / self.height,
            box.width / self.width,
            box.height / self.height,
        )
        axes = self.figure.add_axes(place, facecolor="none")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes

    def box(self, box: Box, fill: str, *, edge: str = "none", rounding: float = 0) -> None:
        shape = f"round,pad=0,rounding_size={rounding}" if rounding else "square,pad=0"
        patch = FancyBboxPatch((box.x, box.y), box.width, box.height, boxstyle=shape)
        patch.set(facecolor=fill, edgecolor=edge, linewidth=0.7)
        self.ground.add_patch(patch)

    def rule(self, x: float, y: float, width: float) -> None:
        """Draw a thin line to the right."""
        self.ground.plot([x, x + width], [y, y], color=BORDER, lw=0.7)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = NORMAL,
        colour: str = TEXT,
        bold: bool = False,
        align: str = "left",
    ) -> None:
        """Write a line whose middle is at ``y``."""
        self.ink.text(
            x,
            y,
            text,
            color=colour,
            fontproperties=_font(size, bold=bold),
            horizontalalignment=align,
            verticalalignment="center",
            parse_math=False,
        )

    def measure(self, text: str, size: float = NORMAL, *, bold: bool = False) -> float:
        """Return how wide a line is."""
        font = _font(size, bold=bold)
        measured = self._renderer.get_text_width_height_descent(text, font, ismath=False)  # type: ignore[no-untyped-call]
        return float(measured[0]) / _ZOOM

    def fitted(self, text: str, width: float, size: float = NORMAL, *, bold: bool = False) -> str:
        """Return as much of a line as fits, with an ellipsis where it was cut."""
        if self.measure(text, size, bold=bold) <= width:
            return text
        cuts = range(1, len(text))
        fit = bisect(cuts, width, key=lambda cut: self.measure(text[:cut] + "…", size, bold=bold))
        return text[:fit].rstrip() + "…"

    def wrapped(self, text: str, width: float, size: float = NORMAL) -> list[str]:
        """Return the lines that a text takes."""
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and self.measure(longer, size) > width:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines

    def paragraph(self, box: Box, text: str, size: float = SMALL) -> None:
        """Write a muted text in the middle of a box."""
        lines = self.wrapped(text, box.width, size)
        top = box.y + box.height / 2 - (len(lines) - 1) * size * 0.7
        for index, line in enumerate(lines):
            self.text(
                box.x + box.width / 2,
                top + index * size * 1.4,
                line,
                size=size,
                colour=MUTED,
                align="center",
            )

    def png(self) -> bytes:
        """Return the page as a PNG of its commonest colours."""
        drawn, small = BytesIO(), BytesIO()
        self.figure.savefig(drawn, format="png")
        with Image.open(drawn) as image:
            page = image.convert("RGB")
        counted = sorted(page.getcolors(page.width * page.height) or (), reverse=True)
        commonest = [colour for _, colour in counted[:256] if isinstance(colour, tuple)]
        palette = Image.new("P", (1, 1))
        palette.putpalette([part for colour in commonest for part in colour])
        few = page.quantize(palette=palette, dither=Image.Dither.NONE)
        few.save(small, "PNG", optimize=True)
        return small.getvalue()


def _font(size: float, *, bold: bool) -> FontProperties:
    return FontProperties(
        family=FONT, size=size * _POINTS / _DOTS, weight="bold" if bold else "normal"
    )
