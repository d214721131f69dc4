"""Safetensors files are checked before they are read."""

import json
import struct

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mdtdist.errors import InputError
from mdtdist.models.weights import MAX_HEADER_BYTES, check_fit, read_header, read_tensors

TENSORS = {"a": torch.arange(6, dtype=torch.float32).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}


@pytest.fixture
def path(tmp_path):
    save_file(TENSORS, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def write(path, header, data=b"", *, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(**changes):
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


def test_header_tells_types_and_shapes(path):
    header = read_header(path)
    assert {key: (info.dtype, info.shape) for key, info in header.items()} == {
        key: (value.dtype, tuple(value.shape)) for key, value in TENSORS.items()
    }
    assert header["a"].numel == 6


def test_tensors_are_converted_and_own_their_memory(path):
    tensors = read_tensors(path, {"a": torch.float32, "b": torch.float32})
    assert torch.equal(tensors["a"], TENSORS["a"]) and tensors["b"].dtype == torch.float32
    assert tensors["a"].untyped_storage().nbytes() == 24
    tensors["a"].zero_()
    assert torch.equal(read_tensors(path, {"a": torch.float32})["a"], TENSORS["a"])


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        (b"[1]", b"", "header is not a JSON object"),
        (b"{", b"", "header is not a JSON object"),
        (b"[" * 100_000, b"", "header is not a JSON object"),
        ({"x": entry()}, b"1234", "cut short: the tensor 'x' ends at byte 8 of the data, which has 4"),
        ({"x": entry()}, b"123456789", "has 1 bytes after its last tensor"),
        ({"x": entry(), "y": entry(data_offsets=[12, 20])}, b"1" * 20, "'y' begins at byte 12; expected 8"),
        ({"x": entry(), "y": entry(data_offsets=[4, 12])}, b"1" * 12, "'y' begins at byte 4; expected 8"),
        ({"x": entry(shape=[3])}, b"1" * 8, r"'x' of shape \(3,\) and type F32 has 8 bytes; expected 12"),
        ({"x": entry(dtype="F7")}, b"1" * 8, "'x' has the type 'F7'"),
        ({"x": entry(shape=[-2])}, b"1" * 8, "entry of 'x' is damaged"),
        ({"x": entry(shape="2")}, b"1" * 8, "entry of 'x' is damaged"),
        ({"x": entry(data_offsets=[0])}, b"1" * 8, "entry of 'x' is damaged"),
        ({"x": 3}, b"", "entry of 'x' is damaged"),
    ],
)
def test_damaged_files_name_the_file_and_the_tensor(tmp_path, header, data, words):
    path = write(tmp_path / "net.safetensors", header, data)
    with pytest.raises(InputError, match=f"net.safetensors.*{words}"):
        read_header(path)


def test_length_is_checked_before_the_header_is_read(tmp_path):
    with pytest.raises(InputError, match=f"claims a header of .* expected at most {MAX_HEADER_BYTES}"):
        read_header(write(tmp_path / "huge.safetensors", b"{}", length=2**63))
    with pytest.raises(InputError, match="cut short inside its header"):
        read_header(write(tmp_path / "cut.safetensors", b"{}", length=3))
    (tmp_path / "empty.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="it has 0 bytes"):
        read_header(tmp_path / "empty.safetensors")
    with pytest.raises(InputError, match="absent.safetensors is missing"):
        read_header(tmp_path / "absent.safetensors")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 200))
def test_every_cut_is_noticed(path, cut):
    whole = path.read_bytes()
    place = path.with_name("cut.safetensors")
    place.write_bytes(whole[: min(cut, len(whole) - 1)])
    with pytest.raises(InputError, match="cut.safetensors"):
        read_header(place)


def test_fit_names_the_first_tensor_that_is_wrong(path):
    header = read_header(path)
    fits = {key: torch.empty(info.shape, device="meta") for key, info in header.items()}
    check_fit(header, fits, path)
    for expected, words in (
        (fits | {"c": torch.empty(1), "d": torch.empty(1)}, r"lacks the tensor 'c' \(1,\) and 1 more"),
        (fits | {"a": torch.empty(3, 2)}, r"'a' has shape \(2, 3\); its network's json expects \(3, 2\)"),
        (fits | {"a": torch.empty(2, 3, dtype=torch.int64)}, "'a' has type torch.float32; expected torch.int64"),
        ({"a": fits["a"]}, "has the tensor 'b', which its network's json does not know"),
    ):
        with pytest.raises(InputError, match=f"net.safetensors.*{words}"):
            check_fit(header, expected, path)
