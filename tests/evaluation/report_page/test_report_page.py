"""The report on made-up records: which number stands in which cell, and that nothing else does."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mdtdist.cli.main import main
from mdtdist.errors import InputError
from mdtdist.evaluation.report_page import write_report
from mdtdist.evaluation.report_page.blocks import Grid, Table
from mdtdist.evaluation.report_page.charts import Curve, Point, curves, scatter
from mdtdist.evaluation.report_page.entries import Entry, merge_groups
from mdtdist.evaluation.report_page.older import read_benchmark, read_comparison
from mdtdist.evaluation.report_page.pictures import open_picture, picture_blocks
from mdtdist.evaluation.report_page.published import PublishedRow, read_published
from mdtdist.evaluation.report_page.reading import read_groups
from mdtdist.evaluation.report_page.tables import table_blocks
from tests.evaluation.report_records import OBJECTS, OTHER_DIGEST, SIDE, metric, save_record

# FD_dinov2, seconds and ULIP of MDT-dist (arXiv 2509.04406) that the shipped file may quote: no others.
PUBLISHED = {
    ("TRELLIS 25x2 (teacher)", "seconds"): 6.1,
    ("TRELLIS 25x2 (teacher)", "fd_dinov2"): 65.2,
    ("TRELLIS 25x2 (teacher)", "ulip"): 39.5,
    ("MDT-dist 1x2", "seconds"): 0.68,
    ("MDT-dist 1x2", "fd_dinov2"): 164.2,
    ("MDT-dist 1x2", "ulip"): 36.9,
    ("MDT-dist 2x2", "seconds"): 0.94,
    ("MDT-dist 2x2", "fd_dinov2"): 110.9,
    ("MDT-dist 2x2", "ulip"): 39.1,
    ("TRELLIS 1x2, not distilled", "fd_dinov2"): 195.6,
    ("CM 1x2", "fd_dinov2"): 194.5,
    ("PCM 1x2", "fd_dinov2"): 189.5,
    ("sCM 1x2", "fd_dinov2"): 186.0,
    ("VM alone 1x2", "fd_dinov2"): 172.0,
    ("MDT-dist (VM + VD) 1x2", "fd_dinov2"): 164.2,
    ("MDT-dist (VM + VD) 2x2", "fd_dinov2"): 110.9,
}


class Page(HTMLParser):
    """Tables, tags and attributes of a page; unbalanced tags fail."""

    VOID = {"meta", "br", "img", "link"}

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tables: list[list[list[tuple[str, str]]]] = []  # table -> row -> (class, text)
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(path.read_text())
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append((dict(attrs).get("class") or "", ""))
        elif tag == "small":
            self._add(" | ")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self._add(data)

    def _add(self, text: str) -> None:
        kind, before = self.tables[-1][-1][-1]
        self.tables[-1][-1][-1] = (kind, before + text)

    def cell(self, table: int, row: str, column: str) -> tuple[str, str]:
        """Class and text of the cell in the row and column that begin so."""
        head, *rows = self.tables[table]
        columns = [i for i, (_, text) in enumerate(head) if text.startswith(column)]
        lines = [line for line in rows if line[0][1].startswith(row)]
        assert len(lines) == 1, f"{len(lines)} rows {row}"
        assert columns, f"no column {column} in {head}"
        return lines[0][columns[0]]


def save_paper_systems(folder: Path, **changes: Any) -> None:
    """Teacher and students with numbers that no published figure has."""
    for name, kind, steps, value in (
        ("teacher 25+25 guided", "teacher", (25, 25), 71.3),
        ("student 1+1", "student", (1, 1), 121.7),
        ("student 2+2", "student", (2, 2), 99.4),
        ("student cm 1+1", "student", (1, 1), 190.3),
    ):
        metrics = {"ulip2": metric(value / 4, name="ulip2", half=0.5), "fd_dinov2": metric(value)}
        save_record(folder, name, kind, steps, metrics=metrics, seconds=0.4, **changes)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    save_paper_systems(tmp_path / "records")
    return tmp_path / "records"


def make_page(records: Path, **options: Any) -> Page:
    return Page(write_report([records], records.parent / "out", **options).html)


def tables(folder: Path) -> list[Table]:
    groups, _ = read_groups([folder])
    return [block for block in table_blocks(merge_groups(groups), read_published()) if isinstance(block, Table)]


# --------------------------------------------------------------------------------------------------------------- cells


def test_each_number_stands_in_its_row_and_column(records: Path) -> None:
    page = make_page(records)
    assert page.cell(0, "teacher 25+25", "FD DINOv2") == ("measured", "71.3 | [69.3, 73.3]")
    assert page.cell(0, "student 1+1", "FD DINOv2") == ("measured", "121.7 | [119.7, 123.7]")
    assert page.cell(0, "student 2+2", "ULIP-2") == ("measured", "24.9 | [24.4, 25.4]")
    assert page.cell(0, "student 2+2", "seconds") == ("measured", "0.40")
    assert page.cell(0, "teacher 25+25", "steps") == ("text", "25+25 | 50+50")
    assert page.cell(1, "student cm 1+1", "FD DINOv2") == ("measured", "190.3 | [188.3, 192.3]")
    titles = ["system", "steps", "seconds", "FD DINOv2", "ULIP-2"]
    assert all(cell[1].startswith(title) for cell, title in zip(page.tables[0][0], titles, strict=False))
    assert len(page.tables[0][0]) == 5 + 3  # no empty column beside what answers a published one


def test_published_figures_stand_beside_and_never_among_ours(records: Path) -> None:
    head, *rows = make_page(records).tables[0]
    quoted = [i for i, (kind, _) in enumerate(head) if kind == "published"]
    texts = {"6.1", "65.2", "39.5", "0.68", "164.2", "36.9", "0.94", "110.9", "39.1"}
    assert {row[i][1] for row in rows for i in quoted} == texts
    assert [head[i][1] for i in quoted] == ["seconds | published", "FD DINOv2 | published", "ULIP x 100 | published"]
    for row in rows:
        for i, (kind, text) in enumerate(row):
            assert (kind == "published") == (i in quoted)
            assert i in quoted or text.split(" | ")[0] not in texts


def test_what_has_no_record_is_not_measured(records: Path) -> None:
    page = make_page(records)
    assert page.cell(1, "PCM 1x2", "FD DINOv2") == ("missing", "not measured")
    assert page.cell(1, "PCM 1x2", "seconds") == ("missing", "not measured")
    assert page.cell(1, "sCM 1x2", "steps") == ("text", "1+1")


def test_a_published_metric_nobody_measured_keeps_its_column(tmp_path: Path) -> None:
    metrics = {"fd_inception": metric(30.0, network="inception"), "fd_dinov2_reg": metric(80.0, network="dinov2 518")}
    save_record(tmp_path / "records", "student 1+1", "student", (1, 1), metrics=metrics)
    page = make_page(tmp_path / "records")
    columns = [text for _, text in page.tables[0][0]]
    assert columns.count("FD DINOv2") == 1 and columns.count("ULIP") == 1
    row = next(row for row in page.tables[0] if row[0][1].startswith("student 1+1"))
    assert row[columns.index("FD DINOv2")] == row[columns.index("ULIP")] == ("missing", "not measured")


def test_a_metric_that_one_record_lacks_is_not_measured_there(records: Path) -> None:
    metrics = {"chamfer": metric(0.031, name="chamfer", half=0.002)}
    reasons = {"fd_dinov2": "has no colours"}
    save_record(records, "FlashVDM", "other", None, metrics=metrics, not_measured=reasons)
    page = make_page(records)
    assert page.cell(0, "FlashVDM", "FD DINOv2") == ("missing", "not measured")
    assert page.cell(0, "FlashVDM", "Chamfer") == ("measured", "0.0310 | [0.0290, 0.0330]")
    assert page.cell(0, "student 1+1", "Chamfer") == ("missing", "not measured")
    assert "has no colours" in (records.parent / "out" / "report.html").read_text()


def test_without_any_record_in_a_table_all_of_ours_is_not_measured(tmp_path: Path) -> None:
    save_record(tmp_path / "records", "LGM", "other", None, metrics={"fd_dinov2": metric(150.0)})
    ablation = make_page(tmp_path / "records").tables[-1]
    own = [cell for row in ablation[1:] for cell in row[2:] if cell[0] != "published"]
    assert own and set(own) == {("missing", "not measured")}


def test_a_record_without_interval_shows_its_value_alone(tmp_path: Path) -> None:
    save_record(tmp_path / "records", "student 1+1", "student", (1, 1), metrics={"coverage": metric(0.5, half=None)})
    assert make_page(tmp_path / "records").cell(0, "student 1+1", "Coverage") == ("measured", "0.500")


def test_fewer_objects_behind_a_number_are_stated(tmp_path: Path) -> None:
    metrics = {"f_score": metric(0.8, name="f_score", half=0.1, n=11, network="")}
    save_record(tmp_path / "records", "student 1+1", "student", (1, 1), metrics=metrics)
    assert make_page(tmp_path / "records").cell(0, "student 1+1", "F-score")[1] == "0.800 | [0.700, 0.900] n = 11"


def test_seconds_of_different_machines_are_marked(records: Path) -> None:
    save_record(records, "student paper 1+1", "student", (1, 1), metrics={}, seconds=1.5, machine="another")
    page = make_page(records)
    letters = {page.cell(0, name, "seconds")[1] for name in ("student 1+1", "student paper 1+1")}
    assert letters == {"0.40 | machine b", "1.50 | machine a"} or letters == {"0.40 | machine a", "1.50 | machine b"}
    assert re.search(r"\([ab]\) another", (records.parent / "out" / "report.html").read_text())


def test_a_cosine_is_printed_times_100_once(tmp_path: Path) -> None:
    metrics = {
        "ulip1": replace(metric(0.123, half=0.01, network="a"), unit=""),
        "ulip2": metric(38.4, name="ulip2", half=0.5),
    }
    save_record(tmp_path / "records", "student 1+1", "student", (1, 1), metrics=metrics)
    page = make_page(tmp_path / "records")
    assert page.cell(0, "student 1+1", "ULIP-1")[1] == "12.3 | [11.3, 13.3]"
    assert page.cell(0, "student 1+1", "ULIP-2")[1] == "38.4 | [37.9, 38.9]"
    heads = [text for _, text in page.tables[0][0] if text.startswith("ULIP-")]
    assert len(heads) == 2 and all(text.endswith(" | x 100") for text in heads)


# ------------------------------------------------------------------------------------------------------------- mixing


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": OTHER_DIGEST},
        {"objects_digest": "c3" * 32},
        {"num_objects": 7},
    ],
)
def test_what_was_measured_otherwise_gets_a_table_of_its_own(records: Path, changes: dict[str, Any]) -> None:
    save_record(records / "more", "student 1+1", "student", (1, 1), metrics={"fd_dinov2": metric(333.3)}, **changes)
    page = make_page(records)
    holding = [
        {value for value in ("121.7", "333.3") for row in table for _, text in row if value in text}
        for table in page.tables
    ]
    assert {"121.7"} in holding and {"333.3"} in holding and {"121.7", "333.3"} not in holding
    assert "do not compare" in (records.parent / "out" / "report.md").read_text()


def test_networks_never_share_a_column(records: Path) -> None:
    metrics = {"fd_dinov2": metric(333.3, network="dinov2 other weights")}
    save_record(records, "student paper 1+1", "student", (1, 1), metrics=metrics)
    page = make_page(records)
    assert (
        page.cell(0, "student paper 1+1", "FD DINOv2 (B)")[0] != page.cell(0, "student paper 1+1", "FD DINOv2 (A)")[0]
    )
    found = {
        page.cell(0, name, f"FD DINOv2 ({letter})")[0] for name, letter in (("student 1+1", "A"), ("student 1+1", "B"))
    }
    assert found == {"measured", "missing"}
    assert "dinov2 other weights" in (records.parent / "out" / "report.html").read_text()


def test_set_distances_of_different_counts_never_share_a_column(records: Path) -> None:
    save_record(records, "student paper 1+1", "student", (1, 1), metrics={"fd_dinov2": metric(80.0, n=6)})
    titles = [column.title for column in tables(records)[0].columns if not column.is_published]
    assert [name for name in titles if name.startswith("FD")] == ["FD DINOv2 (A)", "FD DINOv2 (B)"]


def test_one_system_twice_under_one_protocol_is_refused(records: Path) -> None:
    save_record(records, "student 1+1", "student", (1, 1), metrics={}, file="again")
    with pytest.raises(InputError, match="both measure 'student 1\\+1'"):
        make_page(records)


def test_a_file_given_twice_counts_once(records: Path) -> None:
    report = write_report([records, records / ".", *sorted(records.glob("*.json"))], records.parent / "out")
    assert report.num_systems == 4


# -------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("student 1+1", ""),
        ("teacher 25+25 guided", ""),
        ("student paper 2+2", "paper"),
        ("student vm_wide 1+1", "vm wide"),
        ("3DTopia-XL", "3dtopia xl"),
        ("Hunyuan3D 2.0", "hunyuan3d 2.0"),
        ("MDT-dist 1x2", "mdt dist"),
    ],
)
def test_method_is_the_name_without_role_and_steps(name: str, method: str) -> None:
    assert Entry(name=name, kind="other").method == method


def test_a_published_line_takes_only_its_own_kind_steps_and_guidance() -> None:
    row = PublishedRow(label="x", tables=(), methods=("",), kind="teacher", steps=(1, 1), guided=True)
    right = {"name": "teacher 1+1 guided", "kind": "teacher", "steps": (1, 1), "guided": True}
    assert row.takes(Entry(**right))
    for wrong in ({"kind": "student"}, {"steps": (2, 2)}, {"guided": False}, {"guided": None}, {"name": "cm"}):
        assert not row.takes(Entry(**{**right, **wrong}))


def test_an_unguided_teacher_is_not_the_published_one(tmp_path: Path) -> None:
    save_record(tmp_path / "records", "teacher 1+1 unguided", "teacher", (1, 1), metrics={"fd_dinov2": metric(160.0)})
    page = make_page(tmp_path / "records")
    methods = next(i for i, table in enumerate(page.tables) if any(r[0][1].startswith("CM 1x2") for r in table))
    assert page.cell(methods, "TRELLIS 1x2, not distilled", "FD DINOv2") == ("missing", "not measured")
    row = next(row for row in page.tables[methods] if row[0][1].startswith("teacher 1+1 unguided"))
    assert row[-1] == ("published", "")


def test_published_figures_are_printed_once_per_line(records: Path) -> None:
    save_record(records, "student paper 1+1", "student", (1, 1), metrics={"fd_dinov2": metric(150.0)})
    rows = [row for row in make_page(records).tables[0] if "beside MDT-dist 1x2" in row[0][1]]
    assert len(rows) == 2 and sorted(row[-2][1] for row in rows) == ["", "164.2"]


def test_every_system_is_in_a_table(records: Path) -> None:
    for name, kind, steps in (
        ("teacher 4+4 guided", "teacher", (4, 4)),
        ("student unheard-of 1+1", "student", (1, 1)),
        ("LGM", "other", None),
        ("something else", "other", None),
        ("nearest object", "baseline", None),
        ("test split against itself", "calibration", None),
    ):
        save_record(records, name, kind, steps, metrics={"fd_dinov2": metric(100.0)})
    shown = " ".join(row[0][1] for table in make_page(records).tables for row in table)
    for path in records.glob("*.json"):
        assert json.loads(path.read_text())["system"]["name"] in shown


# ---------------------------------------------------------------------------------------------------------- published


def test_shipped_figures_are_the_known_ones_and_no_others() -> None:
    published = read_published()
    found = {(row.label, figure.metric): figure.value for row in published.rows for figure in row.figures}
    assert found == PUBLISHED
    for row in published.rows:
        for figure in row.figures:
            source = published.sources[figure.source]
            assert (
                figure.where
                and source.reference == "arXiv:2509.04406"
                and source.protocol
                and "A800" in source.hardware
            )


def test_a_figure_without_source_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'schema = "mdtdist-published-1"\ntables = { systems = "T" }\nsources = {}\n[[rows]]\nlabel = "A"\n'
        'tables = ["systems"]\nmethods = ["a"]\nfigures = [{ metric = "clip", value = 1, source = "?", where = "x" }]\n'
    )
    with pytest.raises(InputError, match="no figure without its source"):
        read_published(path)


# ---------------------------------------------------------------------------------------------------------------- page


def test_the_page_needs_nothing_but_itself(records: Path) -> None:
    save_record(records, "student paper 1+1", "student", (1, 1), metrics={}, with_picture=True)
    page = make_page(records)
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert value.startswith(("data:image/", "#")), (tag, name, value)
    text = (records.parent / "out" / "report.html").read_text()
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "base"}
    assert not re.search(r"https?://|url\(|@import", text)
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    text.encode("ascii")


def test_links_of_the_page_lead_somewhere(records: Path) -> None:
    page = make_page(records)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for _, name, value in page.attributes if name == "href"} <= set(ids)


HOSTILE = "<script>alert(1)</script> | *x* `y` \"q\" 'p' &amp; [z](http://e.org)"


def test_names_are_escaped_everywhere(records: Path) -> None:
    metrics = {"fd_dinov2": metric(10.0, network=HOSTILE), HOSTILE: metric(2.0)}
    save_record(
        records, HOSTILE, "student", (1, 1), metrics=metrics, file="hostile", seconds=1.0, machine=HOSTILE,
        command=HOSTILE, notes=(HOSTILE,), with_picture=True,
    )  # fmt: skip
    page = make_page(records, title=HOSTILE)
    assert not page.tags & {"script"}
    assert page.cell(1, HOSTILE, "FD DINOv2 (A)")
    markdown = (records.parent / "out" / "report.md").read_text()
    body = "\n".join(line for line in markdown.splitlines() if not line.startswith("    "))
    assert "<script>" not in re.sub(r"`[^`\n]*`", "", body).replace("\\<", "")
    assert_tables_are_even(markdown)


def assert_tables_are_even(markdown: str) -> None:
    """All rows of a Markdown table have the same number of cells."""
    counts: set[int] = set()
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            counts.add(len(re.findall(r"(?<!\\)\|", line)))
        else:
            assert len(counts) <= 1
            counts = set()


def test_markdown_has_the_same_cells_and_its_files(records: Path) -> None:
    save_record(records, "student paper 1+1", "student", (1, 1), metrics={}, with_picture=True)
    report = write_report([records], records.parent / "out")
    markdown = report.markdown.read_text()
    assert_tables_are_even(markdown)
    row = next(line for line in markdown.splitlines() if line.startswith("| student 1+1"))
    assert r"121.7 \[119.7, 123.7\]" in row and "*164.2*" in row and "*0.68*" in row
    assert "| PCM 1x2 | 1+1 | *not measured* | *not measured* |" in markdown
    shown = re.findall(r"\]\(([^)]+)\)", markdown)
    assert shown and all((report.markdown.parent / name).is_file() for name in shown)


def test_commands_are_printed_exactly(records: Path) -> None:
    report = write_report([records], records.parent / "out")
    command = "mdtdist evaluate --assets out/student_1_1 --protocol shipped-test"
    assert f"<pre>{command}</pre>" in report.html.read_text()
    assert f"\n    {command}\n" in report.markdown.read_text()
    assert "a1" * 32 in report.html.read_text()


def test_the_same_records_give_the_same_bytes(records: Path) -> None:
    first = write_report([records], records.parent / "a")
    second = write_report([records], records.parent / "b")
    assert first.html.read_bytes() == second.html.read_bytes()
    assert first.markdown.read_bytes() == second.markdown.read_bytes()


# -------------------------------------------------------------------------------------------------------------- inputs


def test_another_schema_is_refused(records: Path) -> None:
    path = next(records.glob("*.json"))
    path.write_text(path.read_text().replace("mdtdist-evaluation-1", "mdtdist-evaluation-2"))
    with pytest.raises(InputError, match="mdtdist-evaluation-2"):
        read_groups([records])


def test_other_json_in_a_folder_is_left_out_and_named(records: Path) -> None:
    (records / "settings.json").write_text('{"a": 1}')
    (records / "tool.json").write_text('{"schema": "of something else"}')
    groups, left_out = read_groups([records])
    assert len(groups) == 4 and [path.name for path in left_out] == ["settings.json", "tool.json"]
    with pytest.raises(InputError, match="is no evaluation record"):
        read_groups([records / "settings.json"])


def test_a_missing_picture_is_named(records: Path) -> None:
    save_record(records, "student paper 1+1", "student", (1, 1), metrics={}, pictures=("gone.png",))
    with pytest.raises(InputError, match=r"gone\.png"):
        make_page(records)


def test_command_line(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = records.parent / "out"
    assert main(["report", "--records", str(records), "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["num_systems"] == 4 and Path(said["html"]).is_file() and Path(said["markdown"]).is_file()
    assert said["protocols"] == [{"id": "shipped-test", "digest": "a1" * 32}] and said["left_out"] == []
    assert main(["report", "--records", str(records / "nowhere"), "--out", str(out)]) == 2
    (records.parent / "empty").mkdir()
    assert main(["report", "--records", str(records.parent / "empty"), "--out", str(out)]) == 2
    assert "no evaluation record" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------- older result files


def save_comparison(path: Path) -> Path:
    rows = {
        "teacher_25": {"nfe": [44, 44], "frechet": [140.0, 142.0], "closed": [100.0, 100.0]},
        "none_guided_1": {"nfe": [2, 2], "frechet": [175.0, 176.0], "closed": [0.0, 0.0]},
        "none_unguided_1": {"nfe": [1, 1], "frechet": [155.0]},
        "scm_1": {"nfe": [1, 1], "frechet": [160.0, 164.0], "kernel": [0.1, 0.12], "empty": [0.0, 0.0]},
        "mdt_paper_1": {"nfe": [1, 1], "frechet": [165.0, 167.0]},
        "vm_1": {"nfe": [1, 1], "frechet": [150.0, 152.0]},
    }
    path.write_text(json.dumps(rows))
    return path


def test_the_comparison_of_methods_fills_tables_2_and_3(records: Path) -> None:
    compare = save_comparison(records.parent / "compare.json")
    page = make_page(records, compare=compare)
    index = next(i for i, table in enumerate(page.tables) if any("student scm" in row[0][1] for row in table))
    assert page.cell(index, "student scm 1+1", "FD EfficientNet") == ("measured", "162.0 | \u00b1 2.8")
    assert page.cell(index, "student scm 1+1", "KD EfficientNet") == ("measured", "11.00 | \u00b1 1.41")
    assert page.cell(index, "teacher 1+1 guided", "FD EfficientNet") == ("measured", "175.5 | \u00b1 0.7")
    assert page.cell(index, "student scm 1+1", "seconds") == ("missing", "not measured")
    assert [row[-1][1] for row in page.tables[index] if row[0][1].startswith("student scm")] == ["186.0"]
    assert not any("mdt paper" in row[0][1] for table in page.tables[:index] for row in table)  # none in Table 1
    ablation = page.tables[-1]
    assert [row[-1][1] for row in ablation if row[0][1].startswith("student vm 1+1")] == ["172.0"]
    assert not any("0.7" in text and "71.3" in text for table in page.tables for row in table for _, text in row)


def test_the_comparison_never_shares_a_table_with_records(records: Path) -> None:
    page = make_page(records, compare=save_comparison(records.parent / "compare.json"))
    for table in page.tables:
        names = {row[0][1].split(" | ")[0] for row in table}
        assert not ({"student cm 1+1"} <= names and {"student vm 1+1"} <= names)


def test_a_file_that_is_no_comparison_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "compare.json"
    for text in ("[]", '{"a": 1}', '{"cm_1": {}}', "no json"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"compare\.json"):
            read_comparison(path)


def benchmark_values() -> dict[str, Any]:
    scores = {"iou": [[0.2, 0.4], [0.4, 0.6]], "image_l1": [[1.0, 1.0], [1.0, 1.0]]}
    method = {
        "steps": [1, 1], "guided": False, "nfe": {"structure": 1, "latent": 1}, "num_empty": [0], "frechet": 156.4,
        "kernel": 0.103, "scores": scores, "seconds": {"structure": [0.1, 0.3, 0.2], "latent": [0.5, 0.7, 0.6]},
    }  # fmt: skip
    return {
        "protocol": "p", "model": "m", "machine": "here", "seeds": [0, 1], "objects": ["a", "b"], "num_pictures": 8,
        "methods": {"student 1+1": method}, "baselines": {"mean": {"choice": "", "scores": {"iou": [0.1, 0.3]}}},
    }  # fmt: skip


def test_results_of_a_model_folder_become_entries() -> None:
    group = read_benchmark(Path("mini.json"), benchmark_values())
    student, baseline = group.entries
    found = {metric.name: measured for metric, measured in student.figures.items()}
    assert group.num_objects == 2 and group.digest == "" and (student.kind, baseline.kind) == ("student", "baseline")
    assert found["fd_efficientnet"].value == 156.4 and found["fd_efficientnet"].low is None
    assert found["iou"].value == pytest.approx(0.4)  # mean of 0.3 and 0.5, each the mean over the seeds
    assert (found["iou"].low, found["iou"].high) == (pytest.approx(0.3), pytest.approx(0.5))
    assert "image_l1" not in found
    assert student.total_seconds == pytest.approx(0.8) and student.num_evaluations == 2


# ----------------------------------------------------------------------------------------------------------- drawings


def circles(drawing: str) -> dict[str, tuple[float, float]]:
    pattern = r"<circle cx='([\d.]+)' cy='([\d.]+)'[^>]*><title>([^<:]+):"
    return {name: (float(x), float(y)) for x, y, name in re.findall(pattern, drawing)}


def test_points_stand_where_their_numbers_say() -> None:
    points = [Point(x=x, y=y, label=name) for name, x, y in (("a", 1, 10), ("b", 10, 20), ("c", 100, 30))]
    found = circles(scatter(points, x_title="s", y_title="d", size=(440, 350)))
    assert found["a"][0] < found["b"][0] < found["c"][0] and found["a"][1] > found["b"][1] > found["c"][1]
    assert found["b"][0] == pytest.approx((found["a"][0] + found["c"][0]) / 2, abs=0.1)  # logarithmic
    assert found["b"][1] == pytest.approx((found["a"][1] + found["c"][1]) / 2, abs=0.1)  # linear


def test_labels_do_not_cover_each_other() -> None:
    points = [Point(x=1.0, y=50 + i, label=f"system {i}") for i in range(6)] + [Point(x=9, y=90, label="far")]
    drawing = scatter(points, x_title="s", y_title="d", size=(440, 350))
    rows = re.findall(r"<text x='([\d.]+)' y='([\d.]+)' font-size='12'[^>]*>([^<]+)<", drawing)
    boxes = [(float(x), float(y), float(x) + 6.7 * len(text)) for x, y, text in rows]
    assert len(boxes) >= 5
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert abs(a[1] - b[1]) >= 12 or a[2] <= b[0] or b[2] <= a[0]


def test_a_flat_or_single_series_is_drawn() -> None:
    assert "<path" in curves([Curve(label="a", points=[(0.0, 1.0), (5.0, 1.0)])], title="loss", size=(320, 210))
    assert "<circle" in curves([Curve(label="a", points=[(3.0, 0.0)], is_marked=True)], title="val", size=(320, 210))
    drawing = curves([Curve(label="a", points=[(0.0, 100.0), (5.0, 1.0)])], title="loss", size=(320, 210))
    assert "loss (log)" in drawing


def test_speed_is_plotted_per_protocol_and_apart_from_what_was_published(records: Path) -> None:
    for name in ("student 1+1", "student 2+2"):
        steps = (int(name[-1]), int(name[-1]))
        metrics = {"fd_dinov2": metric(333.3)}
        save_record(records / "more", name, "student", steps, metrics=metrics, seconds=1.0, digest=OTHER_DIGEST)
    out = write_report([records], records.parent / "out").html.parent
    drawings = [path.read_text() for path in sorted(out.glob("report_speed_*.svg"))]
    assert len(drawings) == 3
    held = {tuple(value in text for value in ("121.7", "333.3", "164.2")) for text in drawings}
    assert held == {(True, False, False), (False, True, False), (False, False, True)}


def run_folder(path: Path, values: list[float]) -> Path:
    path.mkdir(parents=True)
    lines = [{"step": i, "samples": 10 * i, "loss": value, "lr": 1.0} for i, value in enumerate(values)]
    lines[-1]["val/iou"] = 0.5
    (path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_learning_curves_of_runs(records: Path) -> None:
    runs = [run_folder(records.parent / name, [3.0, 2.0, 1.0]) for name in ("first", "second")]
    report = write_report([records], records.parent / "out", runs=runs)
    text = report.html.read_text()
    assert text.count("<title>first</title>") == 2 and ">loss<" in text and ">val/iou<" in text and ">lr<" not in text
    assert (report.html.parent / "report_curves_key.svg").is_file()
    with pytest.raises(InputError, match="is missing"):
        write_report([records], records.parent / "out", runs=[records])


# ----------------------------------------------------------------------------------------------------------- pictures


def grids(folder: Path) -> list[Grid]:
    groups, _ = read_groups([folder])
    return [block for block in picture_blocks(merge_groups(groups)) if isinstance(block, Grid)]


def test_grids_lay_systems_side_by_side_on_the_same_objects(tmp_path: Path) -> None:
    save_paper_systems(tmp_path, with_picture=True)
    first, methods = grids(tmp_path)
    assert first.columns == ["input", "truth", "teacher 25+25 guided", "student 1+1", "student 2+2"]
    assert methods.columns == ["input", "truth", "student 1+1", "student cm 1+1"]
    assert list(first.rows) == list(OBJECTS[:3])
    seed = len("student 2+2")
    for row in range(3):
        tiles = [np.asarray(open_picture(tile, width=224)) for tile in first.pictures[row] if tile]
        assert all(tile.shape == (SIDE, SIDE, 3) and (tile == tile[0, 0]).all() for tile in tiles)  # cut at the edges
        shades = [tile[0, 0] for tile in tiles]
        assert shades[0].tolist() == [40 + 60 * row, 0, 10] and shades[1].tolist() == [40 + 60 * row, 80, 10]
        assert shades[4].tolist() == [40 + 60 * row, 160, (seed * 37 + 50 * row) % 256]


def test_pictures_may_be_one_file_per_object(tmp_path: Path) -> None:
    for name in ("chair.png", "chair_input.png", "table.png"):
        Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(tmp_path / name)
    pictures = ("chair.png", "chair_input.png", "table.png")
    save_record(tmp_path, "student 1+1", "student", (1, 1), metrics={}, pictures=pictures)
    grid = grids(tmp_path)[0]
    assert list(grid.rows) == ["chair", "table"] and list(grid.columns) == ["input", "student 1+1"]
    names = [[tile.path.name if tile else None for tile in row] for row in grid.pictures]
    assert names == [["chair_input.png", "chair.png"], [None, "table.png"]]
    tile = grid.pictures[0][1]
    assert tile is not None and open_picture(tile, width=224).getpixel((0, 0)) == (255, 255, 255)  # on white
