"""What a report draws: quality against speed, and how trainings went."""

from collections.abc import Sequence
from pathlib import Path

from mdtdist.errors import InputError
from mdtdist.evaluation.report_page.blocks import Block, Heading, Paragraph, Plot
from mdtdist.evaluation.report_page.charts import Curve, Point, curves, legend, scatter
from mdtdist.evaluation.report_page.entries import Entry, Group, Metric
from mdtdist.evaluation.report_page.numbers import is_set_distance, ordered, title
from mdtdist.evaluation.report_page.published import Published
from mdtdist.evaluation.report_page.tables import group_title

SCATTER, PANEL = (440, 350), (320, 210)  # sizes, SVG units
_KINDS = ("teacher", "student", "other", "baseline", "calibration")
_UNDRAWN = ("lr", "cpu_seconds")
_MAX_POINTS = 300  # of a curve


def speed_blocks(groups: Sequence[Group], published: Published) -> list[Block]:
    """One plot per group: its first Frechet distance against evaluations and, where timed, seconds."""
    blocks: list[Block] = []
    for number, group in enumerate(groups, 1):
        metric = next((metric for metric in _distances(group) if len(_points(group, metric, "nfe")) > 1), None)
        if metric is None:
            continue
        axes = {"seconds": "seconds (log)", "nfe": "network evaluations of both flows (log)"}
        panels = [
            scatter(points, x_title=text, y_title=f"{title(metric.name)}, lower is better", size=SCATTER)
            for axis, text in axes.items()
            if len(points := _points(group, metric, axis)) > 1
        ]
        caption = (
            f"{group_title(group)}. {title(metric.name)} by `{metric.network}`; rings: the teacher without guidance."
        )
        blocks.append(_plot(f"speed_{number}", panels, f"{title(metric.name)} against speed", caption))
    quoted = _published_points(published)
    if quoted:
        panel = scatter(
            quoted, x_title="seconds (log)", y_title="FD DINOv2 as published, lower is better", size=SCATTER
        )
        caption = "As published, under a protocol of its own: never to be laid over the plots of ours."
        blocks.append(_plot("speed_published", [panel], "Published Frechet distance against seconds", caption))
    return [Heading(text="Speed and quality"), *blocks] if blocks else []


def _plot(name: str, panels: Sequence[str], alt: str, caption: str) -> Plot:
    return Plot(name=name, panels=panels, size=SCATTER, alt=alt, caption=caption, columns=2)


def _distances(group: Group) -> list[Metric]:
    metrics = ordered([metric for entry in group.entries for metric in entry.figures])
    return [metric for metric in metrics if is_set_distance(metric.name)]


def _points(group: Group, metric: Metric, axis: str) -> list[Point]:
    points = []
    for entry in group.entries:
        place, measured = _place(entry, axis), entry.figures.get(metric)
        if place and measured:
            points.append(
                Point(
                    x=place,
                    y=measured.value,
                    low=measured.low,
                    high=measured.high,
                    label=entry.name,
                    series=_KINDS.index(entry.kind),
                    is_hollow=entry.kind == "teacher" and entry.guided is False,
                )
            )
    return points


def _place(entry: Entry, axis: str) -> float | None:
    return entry.total_seconds if axis == "seconds" else entry.num_evaluations


def _published_points(published: Published) -> list[Point]:
    points = []
    for row in published.rows:
        seconds, distance = row.value("seconds"), row.value("fd_dinov2")
        if seconds and distance:
            series = _KINDS.index(row.kind) if row.kind in _KINDS else 2
            points.append(Point(x=seconds.value, y=distance.value, label=row.label, series=series))
    return points


# -------------------------------------------------------------------------------------------------------------- curves


def curve_blocks(runs: Sequence[Path]) -> list[Block]:
    """Every logged series of the runs, one panel per name, validation last.

    Raises:
        InputError: if a run has no log, or nothing is logged yet.
    """
    if not runs:
        return []
    from mdtdist.training.curves import read_log  # here, because its package brings the trainer

    labels = [run.name if len({other.name for other in runs}) == len(runs) else str(run) for run in runs]
    logs = [read_log(run) for run in runs]
    names = sorted({name for log in logs for name in log if name not in _UNDRAWN}, key=lambda n: (n[:4] == "val/", n))
    if not names:
        raise InputError(f"nothing is logged yet in {', '.join(map(str, runs))}; wait for the first log_every steps")
    panels = [
        curves(
            [
                Curve(
                    label=label,
                    points=_smooth(log[name], is_validation=name.startswith("val/")),
                    series=number,
                    is_marked=name.startswith("val/"),
                )
                for number, (label, log) in enumerate(zip(labels, logs, strict=True))
                if name in log
            ],
            title=name,
            size=PANEL,
        )
        for name in names
    ]
    caption = "Against samples seen. Training series are averaged over 25 neighbours; dots are validations."
    return [
        Heading(text="Learning curves"),
        *([_key(labels)] if len(runs) > 1 else []),
        Plot(name="curves", panels=panels, size=PANEL, alt="Learning curves", caption=caption, columns=3),
        Paragraph(text=f"Runs: {', '.join(f'`{label}`' for label in labels)}.", is_note=True),
    ]


def _key(labels: Sequence[str]) -> Plot:
    panel, size = legend(labels, width=PANEL[0])
    return Plot(name="curves_key", panels=[panel], size=size, alt="Colours of the runs", caption="", columns=3)


def _smooth(points: Sequence[tuple[int, float]], *, is_validation: bool) -> list[tuple[float, float]]:
    """Means over 25 neighbours, thinned to what a small panel can show."""
    if is_validation:
        return [(float(x), y) for x, y in points]
    values = [y for _, y in points]
    parts = [values[max(0, i - 12) : i + 13] for i in range(len(values))]
    stride = -(-len(points) // _MAX_POINTS)
    return [(float(x), sum(part) / len(part)) for (x, _), part in zip(points, parts, strict=True)][::stride]
