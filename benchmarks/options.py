"""The options that the programs of this folder share."""

import argparse


def parser_for(doc: str, *, rounds: int, threads: bool = True) -> argparse.ArgumentParser:
    """A parser with the first line of a module's docstring and the common options.

    Arguments:
        doc: the docstring.
        rounds: how many rounds are kept unless the user asks for another number.
        threads: whether the number of PyTorch's threads is an option.
    """
    parser = argparse.ArgumentParser(
        description=doc.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=rounds, help="Number of rounds to keep.")
    if threads:
        parser.add_argument("--threads", type=int, default=2, help="Number of threads of PyTorch.")
    parser.add_argument("--out", metavar="FILE.json", help="File of the results.")
    return parser


def add_quiet(parser: argparse.ArgumentParser, per_round: int) -> None:
    """Options of programs whose rounds wait for a quiet machine."""
    parser.add_argument(
        "--per-round", type=int, default=per_round, help="Number of timed calls in each round."
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=120.0,
        help="Longest time, in seconds, to wait until other processes are idle.",
    )


def add_keep_pages(parser: argparse.ArgumentParser) -> None:
    """Whether the allocator keeps freed memory, as the command line has it do."""
    parser.add_argument(
        "--keep-pages",
        action="store_true",
        help="Keep freed memory for the next step (sfnn_pyro/system/allocator.py).",
    )
