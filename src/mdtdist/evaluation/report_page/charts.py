"""Charts as SVG, drawn without a plotting library: sharp at every size, and in the colours of the page.

Colours are the page's CSS variables with light ones as fallback, so that the same drawing stands alone as a file.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

INK, SOFT, LINE, CARD = "var(--ink,#1c2126)", "var(--soft,#66707a)", "var(--line,#dfe3e7)", "var(--card,#ffffff)"
_SERIES = ("#0b6e99", "#b4541a", "#3d7f3a", "#8a4fa3", "#a67c00", "#c0396b", "#4d5b9e", "#6b6f73")
_FONT = "font-family='system-ui,sans-serif'"
_CHARACTER = 0.56  # mean width of a character over its height

Box = tuple[float, float, float, float]  # left, top, right, bottom


def color(index: int) -> str:
    """The colour of a series; they repeat after eight."""
    number = index % len(_SERIES)
    return f"var(--c{number},{_SERIES[number]})"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point of a scatter chart.

    Attributes:
        x, y: data coordinates; ``x`` above 0.
        low, high: ends of the interval of ``y``; None if not known.
        label: beside the point.
        series: decides the colour.
        is_hollow: drawn as a ring.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str
    series: int = 0
    is_hollow: bool = False


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line of a chart: points in data coordinates, finite; ``is_marked`` draws each point."""

    label: str
    points: Sequence[tuple[float, float]]
    series: int = 0
    is_marked: bool = False


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """Data coordinates -> SVG coordinates."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float, *, is_log: bool = False) -> "_Axis":
        """With a margin around the values."""
        low, high = min(values), max(values)
        if is_log:
            ratio = (high / low) ** 0.08 if high > low else 1.5
            return cls(low=low / ratio, high=high * ratio, start=start, end=end, is_log=True)
        margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        return cls(low=low - margin, high=high + margin, start=start, end=end)

    def __call__(self, value: float) -> float:
        scale: Callable[[float], float] = math.log if self.is_log else float
        share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round numbers: three to eight of them."""
        if not self.is_log:
            return self._linear_ticks()
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for parts in ((1,), (1, 3), (1, 2, 5)):
            found = [part * 10.0**decade for decade in decades for part in parts]
            inside = [tick for tick in found if self.low <= tick <= self.high]
            if len(inside) >= 3:
                return inside
        return inside if len(inside) > 1 else self._linear_ticks()

    def _linear_ticks(self) -> list[float]:
        rough = (self.high - self.low) / 4
        power = 10 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        first = math.ceil(self.low / step)
        return [number * step for number in range(first, math.floor(self.high / step) + 1)]


@dataclass
class _Canvas:
    """Elements of one panel and the boxes that labels must not cover."""

    width: int
    height: int
    parts: list[str] = field(default_factory=list)
    taken: list[Box] = field(default_factory=list)

    def text(self, x: float, y: float, text: str, *, size: int, anchor: str = "start", fill: str = INK) -> None:
        self.parts.append(
            f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' {_FONT} text-anchor='{anchor}' fill='{fill}'>"
            f"{escape(text)}</text>"
        )

    def line(self, a: tuple[float, float], b: tuple[float, float], *, stroke: str, width: float = 1) -> None:
        self.parts.append(
            f"<line x1='{a[0]:.1f}' y1='{a[1]:.1f}' x2='{b[0]:.1f}' y2='{b[1]:.1f}' stroke='{stroke}' "
            f"stroke-width='{width}'/>"
        )

    def grid(self, x: _Axis, y: _Axis, *, size: int) -> None:
        """Lines and numbers at the ticks."""
        for tick in y.ticks():
            self.line((x.start, y(tick)), (x.end, y(tick)), stroke=LINE)
            self.text(x.start - 6, y(tick) + size / 3, f"{tick:g}", size=size, anchor="end", fill=SOFT)
        for tick in x.ticks():
            self.line((x(tick), y.start), (x(tick), y.start + 4), stroke=SOFT)
            self.text(x(tick), y.start + size + 6, _short(tick), size=size, anchor="middle", fill=SOFT)
        self.line((x.start, y.start), (x.end, y.start), stroke=SOFT)


def _short(value: float) -> str:
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e4 else f"{value:g}"


# ------------------------------------------------------------------------------------------------------------- scatter


def scatter(points: Sequence[Point], *, x_title: str, y_title: str, size: tuple[int, int], is_log: bool = True) -> str:
    """Points with intervals and labels; SVG elements for a panel of ``size``."""
    canvas = _Canvas(*size)
    heights = [end for point in points for end in (point.y, point.low, point.high) if end is not None]
    x = _Axis.around([point.x for point in points], 52, size[0] - 16, is_log=is_log)
    y = _Axis.around(heights, size[1] - 46, 34)
    canvas.grid(x, y, size=13)
    canvas.text(8, 18, y_title, size=13)
    canvas.text(size[0] - 16, size[1] - 8, x_title, size=13, anchor="end")
    places = [(x(point.x), y(point.y)) for point in points]
    canvas.taken += [(px - 6, py - 6, px + 6, py + 6) for px, py in places]
    for point, place in zip(points, places, strict=True):
        _draw_label(canvas, point.label, place)
    for point, place in zip(points, places, strict=True):
        _draw_point(canvas, point, place, y)  # over the lines that lead to the labels
    return "\n".join(canvas.parts)


def _draw_point(canvas: _Canvas, point: Point, place: tuple[float, float], y: _Axis) -> None:
    shade = color(point.series)
    if point.low is not None and point.high is not None:
        canvas.parts.append(
            f"<path d='M{place[0]:.1f} {y(point.low):.1f}V{y(point.high):.1f}' stroke='{shade}' stroke-opacity='.4'/>"
        )
    fill = CARD if point.is_hollow else shade
    canvas.parts.append(
        f"<circle cx='{place[0]:.1f}' cy='{place[1]:.1f}' r='5' fill='{fill}' stroke='{shade}' stroke-width='2'>"
        f"<title>{escape(point.label)}: {point.y:.4g}</title></circle>"
    )


def _draw_label(canvas: _Canvas, label: str, place: tuple[float, float], size: int = 12) -> None:
    """At the first free place around the point; where all are taken the point keeps only its tooltip."""
    width = _CHARACTER * size * len(label)
    for distance in (0, 16, 32, 48):
        for side, sign in ((1, -1), (-1, -1), (1, 1), (-1, 1)):
            middle = place[1] + sign * distance
            left = place[0] + 9 if side > 0 else place[0] - 9 - width
            box = (left, middle - size / 2, left + width, middle + size / 2)
            if _is_free(canvas, box):
                canvas.taken.append(box)
                if distance:
                    canvas.line(place, (place[0] + side * 8, middle), stroke=SOFT, width=0.6)
                canvas.text(left, middle + size / 3, label, size=size)
                return


def _is_free(canvas: _Canvas, box: Box) -> bool:
    is_inside = box[0] > 46 and box[2] < canvas.width and box[1] > 24 and box[3] < canvas.height - 44
    return is_inside and not any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in canvas.taken
    )


# --------------------------------------------------------------------------------------------------------------- lines


def curves(lines: Sequence[Curve], *, title: str, size: tuple[int, int]) -> str:
    """Curves over each other; the vertical axis is logarithmic where positive values span more than a factor of 30."""
    canvas = _Canvas(*size)
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    is_log = min(ys) > 0 and max(ys) / min(ys) > 30
    x = _Axis.around(xs, 50, size[0] - 12)
    x = _Axis(low=min(xs), high=max(max(xs), min(xs) + 1), start=x.start, end=x.end)
    y = _Axis.around(ys, size[1] - 28, 30, is_log=is_log)
    canvas.grid(x, y, size=11)
    canvas.text(8, 18, title + (" (log)" if is_log else ""), size=13)
    for line in lines:
        places = [(x(a), y(b)) for a, b in line.points]
        path, shade = "L".join(f"{a:.1f} {b:.1f}" for a, b in places), color(line.series)
        name = f"<title>{escape(line.label)}</title>"
        canvas.parts.append(f"<path d='M{path}' fill='none' stroke='{shade}' stroke-width='1.5'>{name}</path>")
        if line.is_marked:
            canvas.parts += [f"<circle cx='{a:.1f}' cy='{b:.1f}' r='2.2' fill='{shade}'/>" for a, b in places]
    return "\n".join(canvas.parts)


def legend(labels: Sequence[str], *, width: int) -> tuple[str, tuple[int, int]]:
    """One line per series, as a panel; its elements and its size."""
    canvas = _Canvas(width, 14 + 20 * len(labels))
    for number, label in enumerate(labels):
        middle = 16 + 20 * number
        canvas.line((10, middle), (34, middle), stroke=color(number), width=3)
        canvas.text(42, middle + 4, label, size=13)
    return "\n".join(canvas.parts), (canvas.width, canvas.height)


def document(panels: Sequence[str], size: tuple[int, int], *, columns: int, alt: str) -> str:
    """Panels side by side as the text of an SVG file."""
    columns = max(1, min(columns, len(panels)))
    width, height = columns * size[0], -(-len(panels) // columns) * size[1]
    inner = "".join(
        f"<svg x='{number % columns * size[0]}' y='{number // columns * size[1]}' width='{size[0]}' "
        f"height='{size[1]}'>{panel}</svg>"
        for number, panel in enumerate(panels)
    )
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' viewBox='0 0 {width} {height}' "
        f"role='img' aria-label='{escape(alt)}'><rect width='100%' height='100%' fill='{CARD}'/>{inner}</svg>\n"
    )
