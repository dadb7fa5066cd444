import struct

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from sfnn_pyro.data import read_idx
from sfnn_pyro.data.idx import parse_idx
from tests.data.helpers import memory_below, outcome, refusal, untimed
from tests.data.made_up import IDX_CODES, idx, zipped

VALID = idx(np.arange(24).reshape(2, 3, 4))


@pytest.mark.parametrize("pack", [bytes, zipped], ids=["plain", "gzip"])
@pytest.mark.parametrize("code", IDX_CODES)
def test_every_dtype_is_read_back(tmp_path, code, pack):
    values = np.arange(24).reshape(2, 3, 4)
    path = tmp_path / "values"
    path.write_bytes(pack(idx(values, code)))
    read = read_idx(path)
    assert read.dtype == torch.from_numpy(np.zeros(0, code[-2:])).dtype
    np.testing.assert_array_equal(read.numpy(), values)


@untimed
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_every_shape_is_read_back(shape, random):
    values = np.array([random.randrange(256) for _ in range(np.prod(shape))]).reshape(shape)
    np.testing.assert_array_equal(parse_idx(idx(values), "f").numpy(), values)


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"", "starts with nothing"),
        (b"\0\0\x08", "no IDX header"),
        (b"\0\1" + VALID[2:], "no IDX header"),
        (b"\0\0\x0a" + VALID[3:], "no IDX header"),
        (b"<html>not found</html>", "starts with 3c 68 74 6d"),
        (b"\0\0\x08\0", "states 0 dimensions"),
        (b"\0\0\x08\xff" + bytes(2000), "states 255 dimensions"),
        (VALID[:10], "ends within its header"),
        (VALID[:-1], "states 24 bytes of values and holds 23"),
        (VALID + b"\0", "states 24 bytes of values and holds 25"),
        (bytes([0, 0, 8, 8]) + struct.pack(">8I", 0, *[2**32 - 1] * 7), "empty shape"),
        (idx([1.0, np.nan], ">f4"), "NaN or infinity"),
        (idx([1.0, np.inf], ">f8"), "NaN or infinity"),
    ],
)
def test_what_is_no_idx_file_is_named(tmp_path, contents, reason):
    for pack in (bytes, zipped):
        path = tmp_path / "images"
        path.write_bytes(pack(contents))
        with refusal(str(path), reason):
            read_idx(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-9],
        lambda packed: packed[:12],
        lambda packed: packed[:3],
        lambda packed: packed[:15] + bytes([packed[15] ^ 0xFF]) + packed[16:],
        lambda packed: packed[:-8] + bytes(4) + packed[-4:],
        lambda packed: packed + b"trailing",
    ],
    ids=["cut", "cut early", "cut in header", "flipped", "checksum", "trailing"],
)
def test_damaged_gzip_is_refused(tmp_path, damage):
    path = tmp_path / "images.gz"
    path.write_bytes(damage(zipped(VALID)))
    with refusal(str(path), "is damaged"):
        read_idx(path)


def test_what_cannot_be_opened_is_refused(tmp_path):
    with refusal("nowhere", "No such file", "check the path"):
        read_idx(tmp_path / "nowhere")
    with refusal(str(tmp_path), "cannot be read"):
        read_idx(tmp_path)


def test_a_header_that_lies_allocates_nothing(tmp_path):
    path = tmp_path / "liar"
    path.write_bytes(bytes([0, 0, 14, 3]) + struct.pack(">3I", *[2**32 - 1] * 3) + bytes(9))
    with memory_below(2**22), refusal("states 633825299"):
        read_idx(path)


def test_a_gzip_bomb_stops_at_the_limit(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(zipped(bytes(2**25)))
    with memory_below(2**23), refusal("holds more than 1048576 bytes"):
        read_idx(path, limit=2**20)


def test_the_limit_itself_is_allowed(tmp_path):
    path = tmp_path / "values"
    path.write_bytes(VALID)
    assert read_idx(path, limit=len(VALID)).shape == (2, 3, 4)
    with refusal("holds more than"):
        read_idx(path, limit=len(VALID) - 1)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "file"


@untimed
@given(
    st.sampled_from([VALID, zipped(VALID), idx([0.5, 1.5], ">f8")]),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=4),
    st.integers(0, 3),
)
@example(VALID, [], 0)
def test_a_mutated_file_is_read_or_refused(scratch, contents, changes, cut):
    mutated = bytearray(contents)
    for position, value in changes:
        mutated[position % len(mutated)] = value
    scratch.write_bytes(mutated[: len(mutated) - cut])
    with memory_below(2**23):
        values = outcome(read_idx, scratch, limit=2**16)
    assert values is None or (0 < values.nbytes < 2**16 and torch.isfinite(values).all())


@untimed
@given(st.sampled_from([b"", b"\0\0\x08\x01", b"\0\0\x0d\x02", b"\x1f\x8b\x08"]), st.binary())
def test_random_bytes_are_read_or_refused(scratch, start, rest):
    scratch.write_bytes(start + rest)
    outcome(read_idx, scratch, limit=2**16)
