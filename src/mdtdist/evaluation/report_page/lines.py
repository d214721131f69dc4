"""Which rows a table has: the lines of the published table, each with our records, then what is ours alone."""

from dataclasses import dataclass

from mdtdist.evaluation.report_page.entries import Entry, Group
from mdtdist.evaluation.report_page.published import Published, PublishedRow

_OWN_VARIANTS = {"vm", "vd", "mdt", "ours", "released", "paper"}
_KINDS = ("teacher", "student", "other", "baseline", "calibration")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row: a line of the published table, a record of ours, or both.

    Attributes:
        row: the published line; None for a system that the paper does not have.
        entry: the record; None if nothing was measured.
        is_first: whether the published figures are printed here: once per published line.
    """

    row: PublishedRow | None
    entry: Entry | None
    is_first: bool = True


def lines(group: Group | None, table: str, published: Published) -> list[Line]:
    """The rows of one table: published lines in their order, each with our records, then what is ours alone."""
    found: list[Line] = []
    taken: set[int] = set()
    entries = group.entries if group and (group.tables is None or table in group.tables) else ()
    for row in published.rows:
        if table not in row.tables:
            continue
        matching = [entry for entry in entries if row.takes(entry)]
        taken.update(map(id, matching))
        if matching or row.figures:
            found += [Line(row=row, entry=entry, is_first=not i) for i, entry in enumerate(matching or [None])]
    extras = [entry for entry in entries if id(entry) not in taken and _belongs(entry, table)]
    return found + [Line(row=None, entry=entry) for entry in sorted(extras, key=_extra_order)]


def _belongs(entry: Entry, table: str) -> bool:
    """Where a system goes that has no line in the paper."""
    is_few_step = entry.steps is not None and max(entry.steps) <= 2
    if table == "systems":
        return entry.kind not in ("teacher", "student") or (entry.kind == "teacher" and not is_few_step)
    if table == "methods":
        return entry.kind == "student" or (entry.kind == "teacher" and is_few_step)
    if table == "ablation":
        return entry.kind == "student" and (not entry.method or bool(_OWN_VARIANTS & set(entry.method.split())))
    return False


def _extra_order(entry: Entry) -> tuple[int, str, int]:
    steps = sum(entry.steps) if entry.steps else 0
    return _KINDS.index(entry.kind), entry.method, -steps if entry.kind == "teacher" else steps


def unfilled(group: Group | None, table: str, published: Published) -> list[str]:
    """Labels of the published lines that have neither a record nor a figure: no row shows them."""
    entries = group.entries if group else ()
    rows = [row for row in published.rows if table in row.tables and not row.figures]
    return [row.label for row in rows if not any(row.takes(entry) for entry in entries)]
