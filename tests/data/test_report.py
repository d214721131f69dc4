"""The report of a prepared folder: counts, causes, pictures, times; names and reasons are text, never markup."""

import json
import re

from PIL import Image

from mdtdist.data import report
from mdtdist.data.layouts import mini_layout
from mdtdist.data.report import failure_causes, stage_times, write_report


def row(number, status="ok", reason="", **more):
    values = {"sha256": f"{number:064d}", "name": f"thing {number}", "source_id": f"a/{number}.glb", "split": "train"}
    return values | {"status": status, "reason": reason, "license": "CC0-1.0"} | more


def write_pictures(out, count):
    for number in range(count):
        folder = out / "renders" / f"{number:064d}"
        folder.mkdir(parents=True)
        Image.new("RGBA", (200, 100), (255, 0, 0, 255)).save(folder / "000.png")


def test_failures_that_differ_in_numbers_and_names_have_one_cause():
    rows = [
        row(n, "failed", f"voxels: ValueError: view {n} of '{n}.png' in /models/{n} shows nothing") for n in range(7)
    ]
    rows += [row(8, "failed", "renders: ValueError: view 3 of 'a' in /b shows nothing"), row(9)]
    first, second = failure_causes(rows)
    assert (first.stage, first.count) == ("voxels", 7) and (second.stage, second.count) == ("renders", 1)
    assert first.reason == second.reason == "ValueError: view # of ... in ... shows nothing"
    assert first.examples == tuple(f"a/{n}.glb" for n in range(5))


def test_times_are_those_of_all_shards_without_failures(tmp_path):
    lines = [{"sha256": "a", "stage": "voxels", "seconds": second, "reason": None} for second in (1.0, 2.0, 6.0)]
    lines.append({"sha256": "a", "stage": "voxels", "seconds": 90.0, "reason": "it failed"})
    for name, part in (("", lines[:2]), ("_shard_1_of_2", lines[2:])):
        text = "\n".join(map(json.dumps, part)) + '\n{"sha256": "cut sh'
        (tmp_path / f"prepare_log{name}.jsonl").write_text(text)
    (time,) = stage_times(tmp_path)
    assert (time.stage, time.count, time.median, time.total) == ("voxels", 3, 2.0, 9.0)


def test_page_counts_and_needs_nothing_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MAX_THUMBNAILS", 3)
    write_pictures(tmp_path, 6)
    (tmp_path / "renders" / f"{0:064d}" / "000.png").write_bytes(b"broken")
    rows = [row(n) for n in range(6)]
    rows += [row(6, "excluded", "flat: thinnest extent 0.001 of the longest", split=""), row(7, license="")]
    rows += [row(8, "failed", "voxels: <script>alert(1)</script>", split="", source_id="<b>x</b>", name="<i>")]
    write_report(tmp_path / "page.html", rows, tmp_path, mini_layout())
    page = (tmp_path / "page.html").read_text()
    assert "<p>9 assets, layout mini.</p>" in page
    for cells in (("ok", 7), ("excluded", 1), ("failed", 1), ("train", 7), ("CC0-1.0", 6), ("unknown", 1)):
        assert f"<td>{cells[0]}</td><td class=n>{cells[1]}</td>" in page
    assert "flat: thinnest extent # of the longest" in page
    assert "<p>3 of 6</p>" in page and page.count("<img") == 2  # one of the three cannot be read
    assert "<script" not in page and "<b>x" not in page and "&lt;b&gt;x&lt;/b&gt;" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
