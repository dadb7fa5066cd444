import errno
import os
import pickle
import zipfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfnn_pyro.system.atomic_files import WriteError, remove_leftovers, replacing, write_text
from sfnn_pyro.system.sealed_files import SealError, _header, read_sealed, write_sealed
from tests.data.helpers import memory_below, untimed

CONTENTS = {"a": torch.arange(3.0), "b": [1, 2.5, "c", None], "d": {"e": True}}


@pytest.fixture
def sealed(tmp_path):
    path = tmp_path / "file"
    write_sealed(path, "note 1", CONTENTS)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "file"
    write_sealed(path, "note 1", CONTENTS)
    return path.read_bytes()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch") / "file"


def refused(path, part, kind="note 1"):
    with pytest.raises(SealError) as caught:
        read_sealed(path, kind)
    message = str(caught.value)
    assert str(path) in message and part in message and "\n" not in message


def test_what_was_written_is_read(sealed):
    read = read_sealed(sealed, "note 1")
    assert torch.equal(read.pop("a"), CONTENTS["a"])
    assert read == {"b": [1, 2.5, "c", None], "d": {"e": True}}


def test_the_same_contents_are_the_same_bytes(sealed, tmp_path):
    write_sealed(tmp_path / "another", "note 1", CONTENTS)
    assert sealed.read_bytes() == (tmp_path / "another").read_bytes()


def test_another_kind_and_another_version_are_named(sealed):
    refused(sealed, "is a file of kind 'note 1', not 'model 1'", "model 1")
    refused(sealed, "use the version of sfnn_pyro that wrote it", "note 2")


def test_every_cut_is_refused(sealed):
    contents = sealed.read_bytes()
    for length in {0, 1, 5, 10, 16, 20, 81, 82, len(contents) // 2, len(contents) - 1}:
        sealed.write_bytes(contents[:length])
        with pytest.raises(SealError):
            read_sealed(sealed, "note 1")


def test_every_altered_byte_is_refused(sealed):
    contents = bytearray(sealed.read_bytes())
    for position in range(0, len(contents), 7):
        contents[position] ^= 1
        sealed.write_bytes(contents)
        with pytest.raises(SealError):
            read_sealed(sealed, "note 1")
        contents[position] ^= 1
    sealed.write_bytes(contents + b"\0")
    refused(sealed, "was cut or altered")


def test_what_is_no_file_of_ours_is_refused(sealed, tmp_path):
    for foreign in (b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"sfnn_pyro", b"\0" * 1000):
        sealed.write_bytes(foreign)
        refused(sealed, "is no file of sfnn_pyro")
    torch.save(CONTENTS, sealed)
    refused(sealed, "is no file of sfnn_pyro")
    refused(tmp_path / "nowhere", "cannot be read (No such file")
    refused(tmp_path, "cannot be read (Is a directory")


class Malice:
    def __reduce__(self):
        return os.system, ("touch executed",)


def with_payload(path, payload):
    path.write_bytes(_header("note 1", memoryview(payload)) + payload)


def test_no_code_is_executed(sealed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Malice()}, tmp_path / "malice")
    with_payload(sealed, (tmp_path / "malice").read_bytes())
    refused(sealed, "holds no tensors that can be read")
    with_payload(sealed, pickle.dumps(Malice()))
    refused(sealed, "holds no tensors that can be read")
    assert not (tmp_path / "executed").exists()


def test_a_bomb_is_refused_before_it_is_unpacked(sealed, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**26))
    with_payload(sealed, (tmp_path / "bomb").read_bytes())
    with memory_below(2**23):
        refused(sealed, "it states more than it holds")


def test_a_payload_that_is_no_table_is_refused(sealed, tmp_path):
    torch.save([1, 2], tmp_path / "list")
    with_payload(sealed, (tmp_path / "list").read_bytes())
    refused(sealed, "holds no table")


def outcome(path):
    try:
        return read_sealed(path, "note 1")
    except SealError as error:
        assert str(error) and "\n" not in str(error)
        return None


changes = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=4)


@untimed
@given(changes, st.integers(0, 3))
def test_a_mutated_file_is_what_it_was_or_refused(whole, scratch, changes, cut):
    mutated = bytearray(whole)
    for position, value in changes:
        mutated[position % len(mutated)] = value
    scratch.write_bytes(mutated[: len(mutated) - cut])
    read = outcome(scratch)
    assert (read is not None) == (scratch.read_bytes() == whole)


@untimed
@given(changes)
def test_a_mutated_payload_under_a_right_checksum_neither_crashes_nor_swells(
    whole, scratch, changes
):
    payload = bytearray(whole.split(b"\n", 2)[2])
    for position, value in changes:
        payload[position % len(payload)] = value
    with_payload(scratch, bytes(payload))
    with memory_below(2**24):
        outcome(scratch)


@untimed
@given(st.sampled_from([b"", b"sfnn_pyro ", b"sfnn_pyro note 1\n", b"PK\x03\x04"]), st.binary())
def test_random_bytes_are_refused(scratch, start, rest):
    scratch.write_bytes(start + rest)
    assert outcome(scratch) is None


def test_an_error_while_writing_leaves_the_older_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_text(path, "older")
    with pytest.raises(KeyError), replacing(path) as file:
        file.write(b"newer")
        raise KeyError
    assert path.read_text() == "older" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "tempfile.mkstemp"])
def test_a_disk_that_fails_leaves_the_older_file_and_nothing_else(
    tmp_path, monkeypatch, number, call
):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "file"
    write_text(path, "older")
    monkeypatch.setattr(f"sfnn_pyro.system.atomic_files.{call}", fail)
    with pytest.raises(WriteError) as caught:
        write_text(path, "newer")
    monkeypatch.undo()
    assert str(path) in str(caught.value) and os.strerror(number) in str(caught.value)
    assert path.read_text() == "older" and os.listdir(tmp_path) == ["file"]


def test_leftovers_of_one_file_are_removed(tmp_path):
    for name in ("model.pt", ".model.pt.x1y2", ".model.pt.z", ".best.pt.q"):
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path / "model.pt")
    assert sorted(os.listdir(tmp_path)) == [".best.pt.q", "model.pt"]


def test_a_file_has_the_permissions_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
