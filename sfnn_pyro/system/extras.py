"""What an extra of this package brings, imported where it is needed."""

from collections.abc import Iterator
from contextlib import contextmanager

EXTRAS = {
    "typer": "cli",
    "rich": "cli",
    "pydantic": "cli",
    "pooch": "cli",
    "matplotlib": "plot",
    "PIL": "cli",
    "ray": "ray",
    "tensorboard": "tensorboard",
}
"""The extra that brings a package, by the package's import name."""


class MissingExtraError(ImportError):
    """A package that only an extra brings is not installed; the message says what to install."""


@contextmanager
def needed_for(what: str) -> Iterator[None]:
    """Says of an import that fails within the block which extra to install.

    Arguments:
        what: what needs the import, with which the message begins.

    Raises:
        MissingExtraError: a package of an extra is not installed.

    Example:
        >>> with needed_for("drawing"):
        ...     raise ModuleNotFoundError(name="matplotlib.figure")
        Traceback (most recent call last):
            ...
        sfnn_pyro.system.extras.MissingExtraError: drawing needs matplotlib: pip install ...
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise MissingExtraError(
            f"{what} needs {package}: pip install 'sfnn_pyro[{EXTRAS[package]}]'", name=error.name
        ) from None
