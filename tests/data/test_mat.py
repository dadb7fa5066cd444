import io
import struct
import zlib

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sfnn_pyro.data.mat import parse_mat
from tests.data.helpers import memory_below, outcome, refusal, untimed
from tests.data.made_up import compressed, element, mat, matrix, nested_cells

VALUES = np.arange(24).reshape(2, 3, 4)
VALID = mat(matrix("other", [[1, 2]]), matrix("faces", VALUES))
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


def parse(contents, name="faces", **keywords):
    return parse_mat(contents, [name], "some.mat", **keywords)[name]


def saved(variables, packed):
    stream = io.BytesIO()
    scipy.io.savemat(stream, variables, do_compression=packed)
    return stream.getvalue()


@untimed
@given(st.data(), st.sampled_from(DTYPES), st.booleans())
def test_what_scipy_saves_is_read_as_scipy_reads_it(data, dtype, packed):
    shape = data.draw(arrays.array_shapes(min_dims=2, max_dims=4, max_side=4))
    values = data.draw(arrays.arrays(dtype, shape))
    contents = saved({"before": "text", "faces": values, "after": {"a": [1, "b"]}}, packed)
    read = parse(contents)
    rival = scipy.io.loadmat(io.BytesIO(contents))["faces"]
    np.testing.assert_array_equal(read, rival)
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("pack", [lambda variable, order: variable, compressed])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_are_read(order, pack):
    wide = np.array([[1, 2, 40000]], f"{order}u2")
    variables = [
        matrix("faces", VALUES, order),
        matrix("wide", None, order, kind=4, mx_class=11, shape=(1, 3), data=wide.tobytes()),
    ]
    contents = mat(*(pack(each, order) for each in variables), order=order)
    found = parse_mat(contents, ["faces", "wide"], "some.mat")
    np.testing.assert_array_equal(found["faces"], VALUES)
    np.testing.assert_array_equal(found["wide"], wide)


def test_a_variable_may_be_stored_narrower_than_its_class():
    double_of_bytes = matrix("faces", [[1, 2], [3, 4]], mx_class=6)
    assert parse(mat(double_of_bytes)).dtype == "u1"


@pytest.mark.parametrize(
    ("variable", "reason"),
    [
        (matrix("faces", [[1]], mx_class=1), "no array of real numbers"),
        (matrix("faces", [[1]], mx_class=4), "no array of real numbers"),
        (matrix("faces", [[1]], mx_class=5), "no array of real numbers"),
        (matrix("faces", [[1]], flags=0x0800), "no array of real numbers"),
        (matrix("faces", [[1]], kind=16), "no array of real numbers"),
        (matrix("faces", [[1]], shape=(2**31 - 1, 2**31 - 1)), "has 1 bytes"),
        (matrix("faces", [[1]], shape=(-1, -1)), "has 1 bytes"),
        (matrix("faces", [[1]], shape=(0, 2**31 - 1), data=b""), "has 0 bytes"),
        (matrix("faces", [[1]], shape=(1,)), "no complete heading"),
        (matrix("faces", [[1]], shape=(1,) * 9), "no complete heading"),
        (element(14, b""), "no complete heading"),
        (matrix("faces", [[1]])[:-8], "states 64 bytes and has fewer"),
        (b"\0\0\0", "ends within an element"),
        (struct.pack("<II", 14, 2**32 - 1), "states 4294967295 bytes and has fewer"),
        (struct.pack("<HHI", 1, 5, 0), "states 5 bytes and has fewer"),
        (matrix("facets", [[1]]), "no variable 'faces'"),
    ],
)
def test_what_is_no_such_variable_is_named(variable, reason):
    with refusal("some.mat", reason):
        parse(mat(variable))


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"", "not the header"),
        (VALID[:100], "not the header"),
        (b"<html>" * 100, "not the header"),
        (mat(version=0x0200), "version is 0x0200"),
        (mat(), "no variable 'faces'"),
    ],
)
def test_another_format_is_refused(contents, reason):
    with refusal("some.mat", reason):
        parse(contents)


def test_damage_inside_a_compressed_variable_is_refused():
    variable = matrix("faces", np.arange(4000).reshape(50, 80) % 251)
    whole = mat(compressed(variable))
    assert parse(whole).shape == (50, 80)
    flipped = bytearray(whole)
    flipped[-2] ^= 1  # in zlib's checksum
    longer = struct.pack("<II", 14, len(variable)) + variable[8:] + bytes(8)
    for contents in (
        bytes(flipped),
        mat(compressed(variable[:-8])),
        mat(compressed(variable + bytes(8))),
        mat(compressed(longer[:-1])),
        mat(compressed(b"")),
        mat(element(15, b"no zlib stream")),
    ):
        with refusal("some.mat", "no usable MAT-file"):
            parse(contents)


def test_a_compressed_bomb_is_never_unpacked():
    values = matrix("faces", None, shape=(2**12, 2**13), data=bytes(2**25))
    bomb = mat(compressed(values))
    with memory_below(2**20), refusal("which is more than 1048576"):
        parse(bomb, limit=2**20)
    with memory_below(2**20), refusal("no variable 'others'"):
        parse(bomb, "others")


def test_a_size_that_lies_allocates_nothing():
    variable = bytearray(matrix("faces", VALUES))
    variable[4:8] = struct.pack("<I", 2**31 - 1)
    packed = zlib.compress(bytes(variable))
    with memory_below(2**20), refusal("ends too early or too late"):
        parse(mat(struct.pack("<II", 15, len(packed)) + packed))


@pytest.mark.parametrize("pack", [bytes, compressed])
def test_nesting_is_not_followed(pack):
    # scipy.io.loadmat overflows the stack on this file, and the process is gone.
    contents = mat(pack(nested_cells("cells", 50_000)), pack(matrix("faces", VALUES)))
    np.testing.assert_array_equal(parse(contents), VALUES)
    with refusal("'cells' is no array"):
        parse(contents, "cells")


PACKED = mat(compressed(matrix("other", [[1, 2]])), compressed(matrix("faces", VALUES)))


@untimed
@given(
    st.sampled_from([VALID, PACKED]),
    st.lists(st.tuples(st.integers(116, 400), st.integers(0, 255)), max_size=4),
    st.integers(0, 3),
)
def test_a_mutated_file_is_read_or_refused(contents, changes, cut):
    mutated = bytearray(contents)
    for position, value in changes:
        mutated[position % len(mutated)] = value
    with memory_below(2**20):
        outcome(parse, bytes(mutated[: len(mutated) - cut]))


@untimed
@given(
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=4), st.integers(0, 40)
)
def test_a_mutated_variable_in_a_sound_compressed_stream(changes, cut):
    variable = bytearray(matrix("faces", VALUES))
    for position, value in changes:
        variable[position % len(variable)] = value
    with memory_below(2**20):
        outcome(parse, mat(compressed(bytes(variable[: len(variable) - cut]))))


@untimed
@given(st.binary())
def test_random_bytes_are_refused(rest):
    outcome(parse, rest)
    outcome(parse, mat(rest))
    outcome(parse, mat(compressed(rest)))
