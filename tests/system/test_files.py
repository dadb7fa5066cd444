import errno
import hashlib
import io
import os
import pickle
import zipfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from sfnn_pyro.system.atomic_files import WriteError, remove_leftovers, replacing, write_text
from sfnn_pyro.system.first_format import header
from sfnn_pyro.system.sealed_files import SealError, read_sealed, write_sealed
from sfnn_pyro.system.weight_files import read_weights, write_weights
from tests.data.helpers import memory_below, untimed
from tests.first_format import write_first_format

CONTENTS = {"a": torch.arange(3.0), "b": [1, 2.5, "c", None], "d": {"e": True}}


WRITERS = {
    "first": lambda path, contents=CONTENTS: write_first_format(path, "note 1", contents),
    "second": lambda path, contents=CONTENTS: write_sealed(path, "note", contents),
}


@pytest.fixture(params=WRITERS)
def sealed(request, tmp_path):
    path = tmp_path / "file"
    WRITERS[request.param](path)
    return path


@pytest.fixture(scope="module", params=WRITERS)
def whole(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "file"
    WRITERS[request.param](path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "file"
    write_weights(path, "note", {"a": torch.ones(2, 3), "b": torch.zeros(0)}, {"by": "me \u00e9"})
    return path


def refused(path, part, kind="note", read=read_sealed):
    with pytest.raises(SealError) as caught:
        read(path, kind)
    message = str(caught.value)
    assert str(path) in message and part in message and "\n" not in message


def test_what_was_written_is_read(sealed):
    read = read_sealed(sealed, "note")
    assert torch.equal(read.pop("a"), CONTENTS["a"])
    assert read == {"b": [1, 2.5, "c", None], "d": {"e": True}}


def test_the_same_contents_are_the_same_bytes(tmp_path):
    write_sealed(tmp_path / "one", "note", CONTENTS)
    write_sealed(tmp_path / "two", "note", CONTENTS)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    texts = {str(number): "text" for number in range(9)}  # the library's order of them is random
    for name in ("three", "four"):
        write_weights(tmp_path / name, "note", {"a": torch.ones(2)}, texts)
    assert (tmp_path / "three").read_bytes() == (tmp_path / "four").read_bytes()


def test_another_kind_and_another_version_are_named(sealed, weights):
    version = 1 if sealed.read_bytes().startswith(b"sfnn_pyro") else 2
    refused(sealed, f"is a file of kind 'note {version}', not 'model {version}'", "model")
    refused(sealed, "use the version of sfnn_pyro that wrote it", "no")
    refused(weights, "is a file of kind 'note 2', not 'model 2'", "model", read_weights)


def test_every_cut_is_refused(sealed):
    contents = sealed.read_bytes()
    for length in {0, 1, 5, 10, 16, 20, 81, 82, len(contents) // 2, len(contents) - 1}:
        sealed.write_bytes(contents[:length])
        with pytest.raises(SealError):
            read_sealed(sealed, "note")


def test_every_altered_byte_is_refused(sealed):
    contents = bytearray(sealed.read_bytes())
    for position in range(0, len(contents), 7):
        contents[position] ^= 1
        sealed.write_bytes(contents)
        with pytest.raises(SealError):
            read_sealed(sealed, "note")
        contents[position] ^= 1
    sealed.write_bytes(contents + b"\0")
    refused(sealed, "was cut or altered")


def test_every_altered_byte_and_every_cut_of_weights_is_refused(weights, tmp_path):
    contents, path = bytearray(weights.read_bytes()), tmp_path / "file"
    for position in range(len(contents)):
        contents[position] ^= 1
        path.write_bytes(contents)
        with pytest.raises(SealError):
            read_weights(path, "note")
        contents[position] ^= 1
        path.write_bytes(contents[:position])
        with pytest.raises(SealError):
            read_weights(path, "note")
    path.write_bytes(contents + b"\0")
    refused(path, "is no file of sfnn_pyro", read=read_weights)


def test_what_is_no_file_of_ours_is_refused(sealed, tmp_path):
    for foreign in (b"", b"PK", b"\x80\x02}q\x00.", b"sfnn_pyro", b"\0" * 1000):
        sealed.write_bytes(foreign)
        refused(sealed, "is no file of sfnn_pyro")
        refused(sealed, "is no file of sfnn_pyro", read=read_weights)
    torch.save(CONTENTS, tmp_path / "other")
    refused(tmp_path / "other", "has no other.sha256 beside it")
    refused(tmp_path / "nowhere", "cannot be read (No such file")
    refused(tmp_path, "cannot be read (Is a directory", read=read_weights)


def test_weights_of_another_program_are_refused(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "file")
    refused(tmp_path / "file", "is no file of sfnn_pyro", read=read_weights)
    save_file({"a": torch.ones(1)}, tmp_path / "file", {"kind": "note 2"})
    refused(tmp_path / "file", "is no file of sfnn_pyro", read=read_weights)
    save_file({"a": torch.ones(1)}, tmp_path / "file", {"kind": "note 2", "sha256": "f" * 64})
    refused(tmp_path / "file", "was cut or altered", read=read_weights)


class Malice:
    def __reduce__(self):
        return os.system, ("touch executed",)


def with_payload(path, payload):
    """Replaces the archive in a file of either format, under a right checksum."""
    if path.read_bytes().startswith(b"sfnn_pyro"):
        path.write_bytes(header("note 1", memoryview(payload)) + payload)
    else:
        path.write_bytes(payload)
        beside = path.with_name(f"{path.name}.sha256")
        beside.write_text(f"{hashlib.sha256(payload).hexdigest()}  {path.name}\n")


def test_no_code_is_executed(sealed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Malice()}, tmp_path / "malice")
    with_payload(sealed, (tmp_path / "malice").read_bytes())
    refused(sealed, "holds no tensors that can be read")
    with_payload(sealed, pickle.dumps(Malice()))
    with pytest.raises(SealError):
        read_sealed(sealed, "note")
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


def test_a_process_killed_between_two_renames_leaves_a_file_that_is_read(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_sealed(path, "note", {"a": 1})
    for name, survivor in (("file", 1), ("file.sha256", 2)):
        real, done = os.replace, []

        def replace(old, new, name=name, real=real, done=done):
            done.append(os.path.basename(new))
            if done.count(name) == (1 if name == "file" else 2):
                raise KeyboardInterrupt
            real(old, new)

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            write_sealed(path, "note", {"a": 2})
        monkeypatch.undo()
        assert read_sealed(path, "note") == {"a": survivor}
    write_sealed(path, "note", {"a": 3})
    assert len((tmp_path / "file.sha256").read_text().splitlines()) == 1


def outcome(path, read=read_sealed):
    try:
        return read(path, "note")
    except SealError as error:
        assert str(error) and "\n" not in str(error)
        return None


changes = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=4)


def mutated(contents, changes, cut=0):
    made = bytearray(contents)
    for position, value in changes:
        made[position % len(made)] = value
    return bytes(made[: len(made) - cut])


@untimed
@given(changes, st.integers(0, 3))
def test_a_mutated_file_is_what_it_was_or_refused(whole, changes, cut):
    contents = whole.read_bytes()
    try:
        whole.write_bytes(mutated(contents, changes, cut))
        read = outcome(whole)
        assert (read is not None) == (whole.read_bytes() == contents)
    finally:
        whole.write_bytes(contents)


@untimed
@given(changes, st.integers(0, 3))
def test_mutated_weights_are_what_they_were_or_refused(weights, changes, cut):
    contents = weights.read_bytes()
    try:
        weights.write_bytes(mutated(contents, changes, cut))
        with memory_below(2**24):
            read = outcome(weights, read_weights)
        assert (read is not None) == (weights.read_bytes() == contents)
    finally:
        weights.write_bytes(contents)


@untimed
@given(changes)
def test_a_mutated_payload_under_a_right_checksum_neither_crashes_nor_swells(
    tmp_path_factory, changes
):
    buffer = io.BytesIO()
    torch.save({"kind": "note 2", **CONTENTS}, buffer)
    scratch = tmp_path_factory.getbasetemp() / "payload"
    for start in (b"", b"sfnn_pyro"):
        scratch.write_bytes(start)
        with_payload(scratch, mutated(buffer.getvalue(), changes))
        with memory_below(2**24):
            outcome(scratch)


@untimed
@given(st.sampled_from([b"", b"sfnn_pyro ", b"sfnn_pyro note 1\n", b"PK\x03\x04"]), st.binary())
def test_random_bytes_are_refused(tmp_path_factory, start, rest):
    scratch = tmp_path_factory.getbasetemp() / "random"
    scratch.write_bytes(start + rest)
    assert outcome(scratch) is None
    assert outcome(scratch, read_weights) is None


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
