"""Layouts, their tables, shards, and that the tables of the layout trellis are read by TRELLIS's rules and by ours."""

import csv
import json
import os
from dataclasses import replace

import pytest

from mdtdist.data import PrepareConfig, files, prepare
from mdtdist.data.engine import EngineConfig, Shard
from mdtdist.data.layouts import Layout, Stage, mini_layout, trellis_layout
from mdtdist.data.prepare import merge
from mdtdist.data.sources import Asset
from mdtdist.data.tables import read_tables, with_metadata
from mdtdist.errors import InputError
from mdtdist.training.trellis_data import TrellisBatches, TrellisData, find_objects
from tests.data.tasks import Exists, Flag, Write
from tests.pipelines.tiny import write_pipeline
from tests.training.official_data import SLAT_MODEL, SS_MODEL, read_rows, sha, write_data


def stage(name, *needs):
    return Stage(name=name, run=Write(name), is_done=Exists(name), needs=needs, columns=Flag(name))


PLAIN = Layout(
    name="mini",
    stages=(stage("first"), stage("second", "first")),
    columns=("sha256", "name", "source_id", "split", "status", "reason", "first", "second"),
)


def asset(number, name="thing", **values):
    values = {"source_id": f"{name}_{number}", "sha256": sha(number), "name": name, **values}
    return Asset(path=values.pop("path", None) or f"/models/{number}.glb", **values)


def make(assets, out, layout=PLAIN, **options):
    rows = prepare(assets, PrepareConfig(out=out, layout=layout, workers=1, **options))
    return {row["source_id"]: row for row in rows}


@pytest.fixture
def assets(tmp_path):
    from pathlib import Path

    made = [asset(number, path=Path(f"/models/{number}.glb")) for number in range(20)]
    return [*made, asset(20, "raise:1", path=Path("/models/20.glb"))]


def test_a_stage_runs_where_the_stages_before_it_have_succeeded(assets, tmp_path):
    calls = []
    config = PrepareConfig(out=tmp_path, layout=PLAIN, workers=1)
    rows = prepare(assets, config, progress=lambda *call: calls.append(call))
    assert [row["status"] for row in rows] == ["ok"] * 20 + ["failed"]
    assert rows[-1]["reason"] == "first: ValueError: bad 1"
    assert [call for call in calls if call[1] == 1] == [("first", 1, 21), ("second", 1, 20)]
    calls.clear()
    prepare(assets, config, progress=lambda *call: calls.append(call))
    assert calls == [("first", 1, 1)]  # what failed is tried again, and nothing else
    calls.clear()
    prepare(assets, replace(config, retry=False), progress=lambda *call: calls.append(call))
    assert calls == []
    assert make(assets, tmp_path, retry=False)["raise:1_20"]["status"] == "failed"


def test_a_failure_is_over_when_the_files_have_come(assets, tmp_path):
    make(assets, tmp_path)
    (tmp_path / "first" / assets[-1].sha256).write_text("mended by hand")
    row = make(assets, tmp_path, stages=("second",), retry=False)["raise:1_20"]
    assert row["first"] is True and row["reason"] == "second: ValueError: bad 1"  # it was let through to the next


def test_stages_that_need_a_later_one_are_a_mistake():
    with pytest.raises(ValueError, match="second of layout mini needs first"):
        replace(PLAIN, stages=tuple(reversed(PLAIN.stages)))
    with pytest.raises(InputError, match="unknown stage 'third'; choose among first, second"):
        PLAIN.stage("third")


def test_shards_write_their_own_tables_and_the_merge_is_the_whole(assets, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    make(assets, whole)
    found = [make(assets, parts, shard=Shard(index=index, count=3)) for index in (1, 2, 3)]
    assert sorted(name for part in found for name in part) == sorted(item.source_id for item in assets)
    assert not (parts / "metadata.csv").exists()
    assert (parts / "metadata_shard_2_of_3.csv").exists() and (parts / "prepare_report_shard_3_of_3.html").exists()
    assert all(row["split"] == "" for part in found for row in part.values())  # by name needs all of them
    rows = merge(PrepareConfig(out=parts, layout=PLAIN))
    lines = [(folder / "metadata.csv").read_text().splitlines() for folder in (whole, parts)]
    assert sorted(lines[0]) == sorted(lines[1]) and lines[0][0] == lines[1][0] and len(rows) == 21
    make(assets, parts, retry=False)  # an unsharded call over the same source merges as well, in the source's order
    assert (parts / "metadata.csv").read_text() == (whole / "metadata.csv").read_text()
    assert not [path for path in parts.rglob(".*")]


def test_the_table_written_last_counts(assets, tmp_path):
    make(assets, tmp_path, shard=Shard(index=1, count=1))
    table = tmp_path / "metadata_shard_1_of_1.csv"
    assert read_tables(tmp_path)[assets[-1].sha256]["status"] == "failed"
    (tmp_path / "first" / assets[-1].sha256).write_text("mended")
    merge(PrepareConfig(out=tmp_path, layout=PLAIN))
    os.utime(table, ns=(1, 1))
    assert read_tables(tmp_path)[assets[-1].sha256]["status"] == "ok"
    os.utime(tmp_path / "metadata.csv", ns=(0, 0))
    assert read_tables(tmp_path)[assets[-1].sha256]["status"] == "failed"
    with pytest.raises(InputError, match="has no metadata_shard_i_of_n.csv"):
        merge(PrepareConfig(out=tmp_path / "none", layout=PLAIN))


def test_a_stage_waits_for_the_files_it_needs_and_leaves_out_what_the_layout_excludes(assets, tmp_path):
    make(assets, tmp_path / "late", stages=("second",))
    assert not (tmp_path / "late" / "second").exists()
    first, second = PLAIN.stages
    layout = replace(PLAIN, exclusion=lambda row: "odd" if row["source_id"] == "thing_3" else "")
    for takes, expected in ((False, [False, False]), (True, [True, False])):
        stages = (replace(first, takes_excluded=takes), second)
        row = make(assets, tmp_path / str(takes), layout=replace(layout, stages=stages))["thing_3"]
        assert (row["status"], row["reason"]) == ("excluded", "odd") and row["split"] == ""
        assert [row["first"], row["second"]] == expected
    assert [stage.takes_excluded for stage in mini_layout().stages] == [True, False, False]


def test_limit_counts_before_the_shards(assets, tmp_path):
    shards = [Shard(index=index, count=2) for index in (1, 2)]
    assert sum(len(make(assets, tmp_path, shard=shard, limit=5)) for shard in shards) == 5


def test_two_layouts_do_not_share_a_folder(assets, tmp_path):
    make(assets, tmp_path)
    with pytest.raises(InputError, match="holds the layout mini, not trellis"):
        make(assets, tmp_path, layout=trellis_layout(PLAIN.stages))


def test_a_table_that_is_none_is_named(assets, tmp_path):
    (tmp_path / "metadata.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="metadata.csv is no table of assets"):
        make(assets, tmp_path)


def test_mini_is_what_it_was():
    layout = mini_layout()
    assert layout.names == ("voxels", "renders", "features") and layout.columns == files.COLUMNS
    assert layout.table_columns([{"sha256": "", "more": 1}]) == files.COLUMNS
    with pytest.raises(InputError, match="leave --shard out"):
        PrepareConfig(out="x", stages=("latents",), structure_encoder="enc", shard=Shard(index=1, count=2))


# --------------------------------------------------------------------------------------------------------- trellis


def official_layout(root):
    """Stages of TRELLIS that find the files of ``write_data`` in place; nothing is left to do but the table."""

    def at(column, *parts, suffix=""):
        def is_done(out, sha256):
            return (out.joinpath(*parts) / (sha256 + suffix)).exists()

        def columns(out, sha256):
            return {column: is_done(out, sha256)}

        return Stage(name=column, run=Write("never"), is_done=is_done, columns=columns)

    return trellis_layout(
        (
            at("cond_rendered", "renders_cond"),
            at(f"ss_latent_{SS_MODEL}", "ss_latents", SS_MODEL, suffix=".npz"),
            at(f"latent_{SLAT_MODEL}", "latents", SLAT_MODEL, suffix=".npz"),
        )
    )


@pytest.fixture
def official(tmp_path):
    """Files of five objects in TRELLIS's folders, and a table made by us."""
    from pathlib import Path

    root = write_data(tmp_path / "data", num_objects=5)
    (root / "metadata.csv").unlink()
    (root / "latents" / SLAT_MODEL / f"{sha(2)}.npz").unlink()
    assets = [
        asset(
            number,
            path=root / "raw" / "3.glb" if number == 3 else Path(f"/models/{number}.glb"),
            metadata={"aesthetic_score": 4.0 + number / 4, "captions": ["a thing, made up", "b"]}
            if number < 4
            else {"file_identifier": "https://example.org/4"},
        )
        for number in range(5)
    ]
    prepare(assets, PrepareConfig(out=root, layout=official_layout(root), stages=("cond_rendered",), workers=1))
    return root


def test_table_of_trellis_has_its_columns_and_values(official):
    rows = read_rows(official)
    assert list(rows[0]) == [
        *("sha256", "file_identifier", "aesthetic_score", "captions", "local_path"),
        *("rendered", "voxelized", "num_voxels", "cond_rendered", f"latent_{SLAT_MODEL}", f"ss_latent_{SS_MODEL}"),
        *("name", "category", "source_id", "creator", "license", "split", "status", "reason"),
        *("width_cm", "depth_cm", "height_cm"),
    ]
    assert [row["aesthetic_score"] for row in rows] == ["4.0", "4.25", "4.5", "4.75", ""]
    assert json.loads(rows[1]["captions"]) == ["a thing, made up", "b"] and rows[4]["captions"] == ""
    assert rows[4]["file_identifier"] == "https://example.org/4" and rows[0]["file_identifier"] == "thing_0"
    assert [row["local_path"] for row in rows][2:4] == ["/models/2.glb", "raw/3.glb"]
    flags = ("rendered", "voxelized", "cond_rendered", f"latent_{SLAT_MODEL}", f"ss_latent_{SS_MODEL}")
    assert {row[flag] for row in rows for flag in flags} == {"True", "False"}  # pandas reads columns of booleans
    assert [row[f"latent_{SLAT_MODEL}"] for row in rows] == ["True", "True", "False", "True", "True"]


def test_training_reads_a_folder_prepared_here(official, tmp_path):
    chosen = {
        sha256 for part in find_objects(TrellisData(stage="structure", roots=(official,))).values() for sha256 in part
    }
    assert {item.sha256 for item in chosen} == {sha(2), sha(3)}  # aesthetic scores of 4.5 and more
    chosen = [item for part in find_objects(TrellisData(stage="latent", roots=(official,))).values() for item in part]
    assert {item.sha256 for item in chosen} == {sha(3)}  # the other has no latent
    data = TrellisData(stage="latent", roots=(official,), min_aesthetic_score=0)
    batches = TrellisBatches(data, model=write_pipeline(tmp_path / "tiny"), seed=0, device="cpu")
    batch, _ = next(batches.validation())
    assert batch.x_0.isfinite().all() and set(batch.ids) <= {sha(number) for number in (0, 1, 3)}


def test_a_folder_without_scores_is_taken_whole(official, assets):
    rows = make(assets[:5], official, layout=official_layout(official), stages=("cond_rendered",))
    assert {row["aesthetic_score"] for row in rows.values()} == {10.0}
    rows = make(assets[:5], official, layout=official_layout(official), stages=("cond_rendered",), score=3.0)
    assert {row["aesthetic_score"] for row in rows.values()} == {3.0}
    found = find_objects(TrellisData(stage="structure", roots=(official,), min_aesthetic_score=3.0))
    assert len({item.sha256 for part in found.values() for item in part}) == 5


def test_columns_of_other_models_and_users_are_carried_along(official, assets):
    path = official / "metadata.csv"
    rows = [row | {"latent_other": "True", "note": "kept"} for row in read_rows(official)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    make(assets[:5], official, layout=official_layout(official), stages=("cond_rendered",))
    again = read_rows(official)
    assert [row["note"] for row in again] == ["kept"] * 5 and again[0]["latent_other"] == "True"
    columns = list(again[0])
    assert columns.index("latent_other") < columns.index(f"ss_latent_{SS_MODEL}") < columns.index("note")


def test_the_last_step_gets_all_rows_and_shards_leave_it_out(assets, tmp_path):
    seen = []
    layout = replace(PLAIN, finish=lambda out, rows: seen.append((out, len(rows))))
    make(assets, tmp_path, layout=layout, shard=Shard(index=1, count=2))
    assert seen == []
    make(assets, tmp_path, layout=layout)
    merge(PrepareConfig(out=tmp_path, layout=layout, engine=EngineConfig()))
    assert seen == [(tmp_path, 21)] * 2


# ---------------------------------------------------------------------------------------------- a user's own metadata


def test_a_users_table_adds_to_what_the_source_says(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(
        "sha256,file_identifier,aesthetic_score,captions,note\n"
        f'{sha(0)},,6.5,"[""a chair""]",x\n'
        ",thing_1,7,,\n"
        ",published,5,,\n"
        "absent,absent,1,,\n"
    )
    given = [asset(0, metadata={"aesthetic_score": 1.0, "kept": 1}), asset(1), asset(2), asset(3)]
    given[2] = asset(2, metadata={"file_identifier": "published"})
    first, second, third, fourth = with_metadata(given, path)
    assert first.metadata["aesthetic_score"] == "6.5" and first.metadata["captions"] == '["a chair"]'
    assert first.metadata["kept"] == 1 and first.metadata["note"] == "x" and first.sha256 == sha(0)
    assert second.metadata == {"file_identifier": "thing_1", "aesthetic_score": "7"}
    assert third.metadata["aesthetic_score"] == "5" and fourth.metadata == {}
    for text, words in (("a,b\n1,2\n", "speaks of none"), ("sha256\nother\n", "speaks of none of the 4 assets")):
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            with_metadata(given, path)
    with pytest.raises(InputError, match="cannot be read as a table"):
        with_metadata(given, tmp_path / "absent.csv")
