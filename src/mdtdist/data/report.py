"""``prepare_report.html``: what became of a folder, on one page that needs nothing beside it."""

import base64
import html
import io
import json
import logging
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mdtdist.data.files import whole_file
from mdtdist.data.layouts import Layout

logger = logging.getLogger(__name__)

MAX_THUMBNAILS = 200
_THUMBNAIL = 112  # pixels
_NUM_EXAMPLES = 5
_STYLE = (
    "body{font:15px/1.4 sans-serif;margin:2em auto;max-width:72em;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:.5em 0 2em}td,th{border-bottom:1px solid #ddd;padding:.25em .8em;"
    "text-align:left;vertical-align:top}td.n{text-align:right}figure{display:inline-block;margin:4px;width:112px}"
    "figcaption{font-size:11px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}"
)


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Assets that failed alike: the stage, the reason without what differs from asset to asset, some of them."""

    stage: str
    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """Seconds of wall clock of the assets that a stage finished, over all runs and shards."""

    stage: str
    count: int
    median: float
    total: float


def failure_causes(rows: Iterable[Mapping[str, Any]]) -> list[Cause]:
    """Failures by stage and cause, the most frequent first; numbers, quoted names and paths make no difference."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        if row["status"] == "failed":
            stage, _, reason = str(row["reason"]).partition(": ")
            groups[stage, _general(reason)].append(str(row.get("source_id") or row["sha256"]))
    causes = [
        Cause(stage=stage, reason=reason, count=len(names), examples=tuple(names[:_NUM_EXAMPLES]))
        for (stage, reason), names in groups.items()
    ]
    return sorted(causes, key=lambda cause: (-cause.count, cause.stage, cause.reason))


def _general(reason: str) -> str:
    reason = re.sub(r"'[^']*'|\"[^\"]*\"|\S*/\S+", "...", reason)
    return re.sub(r"\d+(\.\d+)?", "#", reason)


def stage_times(out: Path) -> list[StageTime]:
    """From the logs that all runs in a folder left."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for path in sorted(out.glob("prepare_log*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                if entry["reason"] is None:
                    seconds[entry["stage"]].append(float(entry["seconds"]))
            except (ValueError, KeyError, TypeError):  # the last line of a run that was killed
                logger.debug("%s has a broken line", path)
    return [
        StageTime(stage=stage, count=len(values), median=statistics.median(values), total=sum(values))
        for stage, values in seconds.items()
    ]


def write_report(path: Path, rows: Sequence[Mapping[str, Any]], out: Path, layout: Layout) -> None:
    """Write the page.

    Args:
        rows: of ``metadata.csv``; everything in them is taken for text.
        out: the prepared folder, for pictures and times.
    """
    statuses = Counter(str(row["status"]) for row in rows)
    splits = Counter(str(row["split"]) for row in rows if row["split"])
    licenses = Counter(str(row.get("license") or "unknown") for row in rows if row["status"] == "ok")
    reasons = Counter(_general(str(row["reason"])) for row in rows if row["status"] == "excluded")
    causes = [(c.stage, c.reason, c.count, ", ".join(c.examples)) for c in failure_causes(rows)]
    times = [(t.stage, t.count, f"{t.median:.2f}", f"{t.total / 3600:.3f}") for t in stage_times(out)]
    parts = [
        f"<p>{len(rows)} assets, layout {html.escape(layout.name)}.</p>",
        _table("Assets", ("status", "number"), statuses.most_common()),
        _table("Splits", ("split", "number"), splits.most_common()),
        _table("Finished stages", ("stage", "number"), _finished(rows, out, layout)),
        _table("Failures by cause", ("stage", "cause", "number", "for example"), causes),
        _table("Left out", ("reason", "number"), reasons.most_common()),
        _table("Time per stage", ("stage", "assets", "median seconds", "hours of all workers"), times),
        _table("Licences of usable assets", ("licence", "number"), licenses.most_common()),
        _gallery(rows, out, layout),
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Prepared data</title><style>{_STYLE}</style><h1>Prepared data</h1>{''.join(parts)}</html>\n"
    )
    with whole_file(path) as file:
        file.write(page.encode())


def _finished(rows: Sequence[Mapping[str, Any]], out: Path, layout: Layout) -> list[tuple[str, int]]:
    return [
        (stage.name, sum(stage.is_done(out, str(row["sha256"])) for row in rows if row["status"] == "ok"))
        for stage in layout.stages
    ]


def _table(title: str, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    if not lines:
        return ""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(map(_cell, line))}</tr>" for line in lines)
    return f"<h2>{html.escape(title)}</h2><table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    return f"<td{' class=n' if isinstance(value, int) else ''}>{html.escape(str(value))}</td>"


def _gallery(rows: Sequence[Mapping[str, Any]], out: Path, layout: Layout) -> str:
    found = [(row, path) for row in rows if (path := layout.picture(out, str(row["sha256"]))) is not None]
    if not found:
        return ""
    chosen = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, MAX_THUMBNAILS).round().astype(int))]
    figures = []
    for row, path in chosen:
        title = html.escape(f"{row.get('name') or row['sha256'][:12]} ({row['status']})", quote=True)
        if (data := _thumbnail(path)) is not None:
            picture = f'<img width="{_THUMBNAIL}" height="{_THUMBNAIL}" alt="{title}" src="{data}">'
            figures.append(f'<figure title="{title}">{picture}<figcaption>{title}</figcaption></figure>')
    return f"<h2>Pictures</h2><p>{len(chosen)} of {len(found)}</p>{''.join(figures)}"


def _thumbnail(path: Path) -> str | None:
    """A data URI of a small picture on grey; None if the file cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.thumbnail((_THUMBNAIL, _THUMBNAIL))
            small = image.convert("RGBA")
    except OSError:
        logger.debug("no thumbnail of %s", path, exc_info=True)
        return None
    canvas = Image.new("RGBA", (_THUMBNAIL, _THUMBNAIL), (225, 225, 225, 255))
    canvas.alpha_composite(small, ((_THUMBNAIL - small.width) // 2, (_THUMBNAIL - small.height) // 2))
    buffer = io.BytesIO()
    canvas.convert("RGB").save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
