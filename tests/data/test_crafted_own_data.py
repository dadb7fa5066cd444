"""A person's own files with any part replaced: a task of finite numbers, or one line."""

import gzip
import io
import json
import random
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from sfnn_pyro.data import DataError, OwnData, load_own
from sfnn_pyro.data.own import describe

VARIANTS = 100
"""Of each kind of file; ``python -m tests.data.test_crafted_own_data 10000`` tries more."""

NUMBERS = [0, 1, -1, 2, 7, 255, 65535, 2**31, 2**63, 2**64, -(2**63), 10**30]
TEXTS = ["", "nan", "inf", "-inf", "1e400", "0x10", "1_0", "½", "\0", '"', "a,b", "é", " 1", "٣"]


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def png(chance):
    stream = io.BytesIO()
    mode = chance.choice(["L", "RGB", "RGBA", "1", "P", "I;16"])
    grey = np.array([[chance.randrange(256) for _ in range(4)] for _ in range(4)], "u1")
    picture = Image.fromarray(grey.astype("u2") if mode == "I;16" else grey)
    (picture if mode == "I;16" else picture.convert(mode)).save(stream, "png")
    return stream.getvalue()


def any_array(chance):
    """Arrays of all types and shapes that NumPy writes, some of them empty or not finite."""
    shape = chance.choice(
        [(), (0,), (1,), (12,), (12, 1), (12, 3), (12, 4, 4), (12, 0), (3, 2, 2, 2)]
    )
    kind = chance.choice(["u1", "i8", "f4", "f8", "f2", "?", ">f8", "c8", "U3", "M8[s]", "u8"])
    values = [chance.choice([0, 1, 2, 3, 250]) for _ in range(int(np.prod(shape)))]
    array = np.array(values).reshape(shape).astype(kind)
    if kind in ("f4", "f8") and array.size and chance.random() < 0.3:
        array.reshape(-1)[chance.randrange(array.size)] = chance.choice(
            [np.nan, np.inf, -np.inf, 3e38]
        )
    return array


def other_header(raw, chance):
    """A ``.npy`` file whose header states something else."""
    fields = {
        "descr": chance.choice(
            ["'<f4'", "'|O'", "'<f8'", "'|V0'", "[('a', '<f4')]", "None", "'<U9'"]
        ),
        "fortran_order": chance.choice(["True", "False", "3", "__import__('os')"]),
        "shape": chance.choice(
            ["()", "(12, 3)", "(-1,)", "(2**70,)", f"({10**30},)", "(0, 7)", "5"]
        ),
    }
    if chance.random() < 0.2:
        fields.pop(chance.choice(list(fields)))
    text = "{" + ", ".join(f"'{key}': {value}" for key, value in fields.items()) + ", }"
    header = (text + " " * (63 - (10 + len(text)) % 64) + "\n").encode()
    version = chance.choice([b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x09\x00"])
    return raw[:6] + version + struct.pack("<H", len(header)) + header + raw[-144:]


def crafted_npy(chance):
    if chance.random() < 0.4:
        return npy(np.arange(36, dtype=chance.choice(["u1", "f4", "f8"])).reshape(12, 3))
    raw = npy(any_array(chance))
    return other_header(raw, chance) if chance.random() < 0.5 else raw


def crafted_npz(chance):
    names = chance.sample(["x", "y", "a/b", "../c", " ", "ü"], chance.randrange(4))
    if chance.random() < 0.4:
        some = any_array(chance) if chance.random() < 0.5 else np.arange(12) % 2
        return npz(x=np.arange(36.0).reshape(12, 3), y=some)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", chance.choice([0, 8])) as archive:
        for name in names:
            kind = chance.choice([".npy", ".npy", ".npy", ".txt", ""])
            archive.writestr(name + kind, crafted_npy(chance))
    return stream.getvalue()


def crafted_table(chance):
    columns = chance.choice([1, 2, 3, 3, 4, 4])
    comma = chance.choice([",", ",", "\t", ";"])
    names = chance.sample(["x", "y", "a", "b", "c", "0-1", "ü", ""], columns)
    rows = [names] if chance.random() < 0.7 else []
    for number in range(chance.choice([0, 1, 2, 3] + [12] * 12)):
        rows.append([str(chance.choice([number, 0.5, 1])) for _ in range(columns)])
    for _ in range(chance.choice([0, 0, 0, 1, 2])):
        if rows:
            row = chance.choice(rows)
            row[chance.randrange(len(row))] = chance.choice([*TEXTS, *map(str, NUMBERS)])
    if rows and chance.random() < 0.1:
        chance.choice(rows).append("more")
    return "\n".join(comma.join(row) for row in rows).encode(
        chance.choice(["utf-8"] * 9 + ["utf-16"])
    )


def crafted_safetensors(chance):
    header = {"x": {"dtype": "F32", "shape": [12, 3], "data_offsets": [0, 144]}}
    header["y"] = {"dtype": "I64", "shape": [12], "data_offsets": [144, 240]}
    if chance.random() < 0.6:
        entry = header[chance.choice(["x", "y"])]
        key = chance.choice(list(entry))
        kinds = ["F64", "F16", "BF16", "BOOL", "C64", "F8_E4M3", "U64", "XX"]
        entry[key] = chance.choice([kinds[chance.randrange(8)], [chance.choice(NUMBERS)], None, 3])
    text = json.dumps(header).encode()
    size = chance.choice([len(text)] * 9 + [0, 1, 2**40, 2**64 - 1])
    numbers = np.arange(36, dtype="f4").tobytes() + (np.arange(12) % 2).astype("i8").tobytes()
    return struct.pack("<Q", size) + text + numbers


def crafted_picture(chance):
    """A picture one of whose chunks has other contents and the right checksum."""
    raw = png(chance)
    chunks, place = [], 8
    while place < len(raw):
        (length,) = struct.unpack(">I", raw[place : place + 4])
        chunks.append([raw[place + 4 : place + 8], raw[place + 8 : place + 8 + length]])
        place += 12 + length
    chunk = chance.choice(chunks)
    if chance.random() < 0.7 and chunk[1]:
        at = chance.randrange(len(chunk[1]))
        chunk[1] = chunk[1][:at] + bytes([chance.randrange(256)]) + chunk[1][at + 1 :]
    elif chance.random() < 0.5:
        chunks.remove(chunk)
    made = raw[:8]
    for name, data in chunks:
        made += (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )
    return made


def damaged(raw, chance):
    """Bytes changed, cut, doubled, or compressed, some of it twice."""
    kind = chance.randrange(12)
    at = chance.randrange(len(raw) + 1)
    if kind == 0:
        return raw[:at] + bytes([chance.randrange(256)]) + raw[at + 1 :]
    if kind == 1:
        return raw[:at]
    if kind == 2:
        return raw[:at] + raw[chance.randrange(len(raw) + 1) :]
    if kind == 3:
        packed = gzip.compress(raw, mtime=0)
        return packed if chance.random() < 0.5 else packed[: chance.randrange(len(packed) + 1)]
    return raw


KINDS = {
    ".npy": crafted_npy,
    ".npz": crafted_npz,
    ".csv": crafted_table,
    ".tsv": crafted_table,
    ".safetensors": crafted_safetensors,
    "": crafted_picture,
}


FITTING = {".npy": {"input": "none"}, ".csv": {"x": "0"}, ".tsv": {"y": "0"}}
"""What must be chosen about some kinds of files."""


def any_choice(chance, kind):
    """What a person may choose, right for most files or not."""
    if chance.random() < 0.6:
        return OwnData(**FITTING.get(kind, {}))
    options = {
        "x": ["", "", "x", "y", "0", "0-1", "0-99999999999", "-1", "x:0-1", "ü", ",", "1-0"],
        "y": ["", "", "y", "x", "2", "1-", "kind", "nowhere.npy"],
        "input": ["", "upper-half", "left-half", "none"],
        "shape": [(), (), (2, 2), (4, 4), (1, 1), (65536, 65536)],
        "scale": [0.0, 0.0, 1e-30, 3.0],
        "validation": [0.1, 0.0, 0.8],
        "test": [0.1, 0.0],
    }
    chosen = {key: chance.choice(values) for key, values in options.items()}
    return OwnData(**{**chosen, "input": "" if chosen["y"] else chosen["input"]})


def try_variants(folder, kind, count, seed=0):
    """Loads and describes variants of a kind of file; how many were refused."""
    chance, refused = random.Random(f"{kind}{seed}"), 0
    for number in range(count):
        path = folder / f"d{kind}"
        if kind:
            path.write_bytes(damaged(KINDS[kind](chance), chance))
        else:
            path.mkdir(exist_ok=True)
            for name in "abc":
                crafted = chance.random() < 0.2
                raw = damaged(crafted_picture(chance), chance) if crafted else png(chance)
                (path / f"{name}.png").write_bytes(raw)
        own = any_choice(chance, kind)
        try:
            likelihood = chance.choice([""] * 9 + ["bernoulli", "gaussian", "categorical"])
            binarisation = chance.choice([""] * 9 + ["once", "epoch", "none"])
            data = load_own(path, own, likelihood=likelihood, binarisation=binarisation)
        except DataError as error:
            text = str(error)
            assert text and "\n" not in text and len(text) < 1000, f"variant {number}: {text}"
            refused += 1
        else:
            for part in (data.train, data.validation, data.test):
                assert len(part.x) == len(part.y), f"variant {number}"
                assert part.x.isfinite().all() and part.y.isfinite().all(), f"variant {number}"
            assert data.train.x.dtype == torch.float32 and len(data.train), f"variant {number}"
        try:
            described = describe(path, own)
            assert described.to_dict() and all(described.lines())
        except DataError as error:
            assert "\n" not in str(error)
    return refused


@pytest.mark.parametrize("kind", KINDS)
def test_any_part_of_a_file_replaced(tmp_path, kind):
    assert 0 < try_variants(tmp_path, kind, VARIANTS) < VARIANTS


if __name__ == "__main__":
    import sys
    import tempfile
    import warnings
    from pathlib import Path

    warnings.simplefilter("error")
    for name in KINDS:
        with tempfile.TemporaryDirectory() as place:
            wanted = int(sys.argv[1])
            print(name or "pictures", try_variants(Path(place), name, wanted), "refused of", wanted)
