"""Records of measured systems: written whole, read strictly, never mixed."""

import dataclasses
import hashlib
import json

import pytest

from mdtdist.errors import InputError
from mdtdist.evaluation.measuring.records import (
    Metric,
    ProtocolReference,
    Record,
    System,
    check_same_protocol,
    objects_digest,
    read_record,
    read_records,
    write_record,
)


def make(name="student 1+1", digest="d" * 64, objects=("a", "b"), **changes):
    return Record(
        system=System(name=name, kind="student", steps=(1, 1), nfe=(1, 1), guided=False),
        protocol=ProtocolReference(id="shipped-test", digest=digest),
        num_objects=len(objects),
        objects_digest=objects_digest(objects),
        objects=objects,
        seeds=(0,),
        alignment={"up": "auto", "found": {"a sentence": 2}},
        metrics={"chamfer": Metric(value=1 / 3, low=None, high=0.5, better="lower", unit="object units", n=2)},
        not_measured={"clip": "no weights"},
        machine="a machine",
        command="mdtdist evaluate",
        made="2026-01-01T00:00:00+00:00",
        versions={"torch": "2"},
        per_object={"chamfer": [0.25, 1 / 3]},
        **changes,
    )


def test_a_record_survives_its_file(tmp_path):
    path = tmp_path / "one.json"
    write_record(path, make())
    read = read_record(path)
    assert read.metrics["chamfer"] == Metric(
        value=0.333333, low=None, high=0.5, better="lower", unit="object units", n=2
    )
    assert dataclasses.replace(read, metrics={}, per_object={}) == dataclasses.replace(
        make(), metrics={}, per_object={}
    )
    assert read.per_object["chamfer"] == [0.25, 0.333333]


def test_the_file_has_the_published_keys(tmp_path):
    write_record(tmp_path / "one.json", make())
    values = json.loads((tmp_path / "one.json").read_text())
    assert values["schema"] == "mdtdist-evaluation-1"
    assert values["system"] == {
        "name": "student 1+1",
        "kind": "student",
        "steps": [1, 1],
        "nfe": [1, 1],
        "guided": False,
    }
    assert set(values["metrics"]["chamfer"]) == {"value", "low", "high", "better", "unit", "n", "network"}
    wanted = {"protocol", "num_objects", "objects_digest", "seeds", "alignment", "seconds", "memory_bytes", "machine"}
    assert wanted | {"command", "made", "versions", "pictures", "per_object"} <= set(values)


def test_the_digest_of_objects_is_that_of_their_sorted_lines():
    assert objects_digest(["b", "a"]) == hashlib.sha256(b"a\nb").hexdigest()


def test_other_files_are_no_records(tmp_path):
    path = tmp_path / "one.json"
    for text, message in (
        ("{", "is no JSON"),
        ("[]", "schema None"),
        ('{"schema": "mdtdist-evaluation-2"}', "mdtdist-evaluation-2"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_record(path)
    write_record(path, make())
    path.write_text(path.read_text().replace('"seeds"', '"sedes"'))
    with pytest.raises(InputError, match="did you mean 'seeds'"):
        read_record(path)
    with pytest.raises(InputError, match="cannot read"):
        read_record(tmp_path / "none.json")


def test_a_folder_of_records_may_hold_other_json(tmp_path):
    with pytest.raises(InputError, match="has no record"):
        read_records(tmp_path)
    (tmp_path / "other.json").write_text('{"model": "mini"}')
    write_record(tmp_path / "b.json", make("two"))
    write_record(tmp_path / "a.json", make("one"))
    assert [record.system.name for record in read_records(tmp_path)] == ["one", "two"]


def test_records_of_other_protocols_or_objects_share_no_table():
    check_same_protocol([make(), make("two")])
    with pytest.raises(InputError, match="protocol digest"):
        check_same_protocol([make(), make("two", digest="e" * 64)])
    with pytest.raises(InputError, match="set of objects"):
        check_same_protocol([make(), make("two", objects=("a", "c"))])


def test_a_value_that_is_no_number_is_not_written(tmp_path):
    bad = Metric(value=float("nan"), low=None, high=None, better="lower", n=2)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_record(tmp_path / "one.json", dataclasses.replace(make(), metrics={"iou": bad}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("steps", [(1,), (0, 1), (1, 2, 3)])
def test_steps_are_two_numbers_from_one_up(steps):
    with pytest.raises(InputError, match="expected two whole numbers"):
        System(name="x", steps=steps)
