"""The files that data sets are made of: names, checksums, mirrors and credits."""

from __future__ import annotations

from dataclasses import dataclass

from sfnn_pyro.data.errors import DataError


@dataclass(frozen=True)
class SourceFile:
    """One file of a source.

    Arguments:
        name: its name, without the ``.gz`` of a compressed copy.
        sha256: checksum of its decompressed contents; empty where every owner's copy is good.
        limit: the largest number of decompressed bytes it may have.
        git_blob: the name by which Git knows the file as the mirrors store it, where that is the
            only checksum that its authors published. A decompressed copy is not checked by it.
    """

    name: str
    sha256: str
    limit: int
    git_blob: str = ""


@dataclass(frozen=True)
class Source:
    """The files of one data set and where they come from.

    Arguments:
        name: the data set's name, and that of the subfolder for its files.
        files: what it consists of.
        advice: how a person gets the files.
        mirrors: web folders that hold all of the files, best first; none if it is not public.
        suffix: what the mirrors add to the files' names.
        shared_names: whether another data set has files of the same names, so that they are looked
            for in the folder of this name alone.
    """

    name: str
    files: tuple[SourceFile, ...]
    advice: str
    mirrors: tuple[str, ...] = ()
    suffix: str = ""
    shared_names: bool = False


MNIST = Source(
    name="mnist",
    files=(
        SourceFile(
            "train-images-idx3-ubyte",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            47_040_016,
        ),
        SourceFile(
            "train-labels-idx1-ubyte",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            60_008,
        ),
        SourceFile(
            "t10k-images-idx3-ubyte",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            7_840_016,
        ),
        SourceFile(
            "t10k-labels-idx1-ubyte",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            10_008,
        ),
    ),
    advice="run `sfnn data download mnist`, or set SFNN_DATA to the folder that has it",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    suffix=".gz",
)

FASHION = Source(
    name="fashion-mnist",
    files=(
        SourceFile(
            "train-images-idx3-ubyte",
            "",
            47_040_016,
            git_blob="e6ee0e37929b03937517cd45e65f4e8ca9de720d",
        ),
        SourceFile(
            "train-labels-idx1-ubyte",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            60_008,
        ),
        SourceFile(
            "t10k-images-idx3-ubyte",
            "",
            7_840_016,
            git_blob="667844f10bb92ae415eddb04e718f3e702547007",
        ),
        SourceFile(
            "t10k-labels-idx1-ubyte",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            10_008,
        ),
    ),
    advice=(
        "run `sfnn data download fashion-mnist`, or put its four files into a folder fashion-mnist "
        "in the one that SFNN_DATA names"
    ),
    mirrors=(
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    suffix=".gz",
    shared_names=True,
)

OMNIGLOT = Source(
    name="omniglot",
    files=(
        SourceFile("chardata.mat", "", 2**28, git_blob="016a3536ffe5e1d38e42563a18d7a78bfaf643ec"),
    ),
    advice="run `sfnn data download omniglot`, or set SFNN_DATA to the folder that has it",
    mirrors=("https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/",),
)

OLIVETTI = Source(
    name="olivetti",
    files=(
        SourceFile(
            "olivettifaces.mat",
            "b1988d02c72fe5b8ee82b5ef3bb7982eafc74f1e1ff0ae0ade35061ad0af534d",
            2**21,
        ),
    ),
    advice="run `sfnn data download olivetti`, or set SFNN_DATA to the folder that has it",
    mirrors=(
        "https://cs.nyu.edu/~roweis/data/",
        "https://web.archive.org/web/2id_/https://cs.nyu.edu/~roweis/data/",
    ),
)

TFD = Source(
    name="tfd",
    files=(SourceFile("TFD_48x48.mat", "", 2**31),),
    advice=(
        "it is not public; ask its authors for a copy and set SFNN_DATA to the folder that has it, "
        "or use 'olivetti'"
    ),
)

SOURCES = {source.name: source for source in (MNIST, FASHION, OMNIGLOT, OLIVETTI, TFD)}


def source_of(name: str) -> Source:
    """The source that can be downloaded under a name; ``DataError`` where there is none."""
    source = SOURCES.get(name)
    if source is None:
        choice = ", ".join(each.name for each in SOURCES.values() if each.mirrors)
        raise DataError(f"{name!r} is no data set to download: choose one of {choice}")
    if not source.mirrors:
        raise DataError(f"{name!r} cannot be downloaded: {source.advice}")
    return source
