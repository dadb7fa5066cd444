"""Checks of type and range for numbers that a person or a file gave."""

import math
import operator
from numbers import Real
from typing import Any

MAX_SHOWN = 40
"""Characters of a value in a message."""

LARGEST_FLOAT32 = 3.4028234663852886e38


def shown(value: Any) -> str:
    """A value for a message, shortened.

    Example:
        >>> shown(5), shown("5"), shown(10**100)
        ('5', "'5'", '1000000000000000000... (101 digits)')
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**MAX_SHOWN:
        digits = int(value.bit_length() * math.log10(2)) + 1
        if digits > 4000:  # which Python does not write in decimal
            return f"a number of {digits} digits"
        text = str(value)
        return f"{text[:19]}... ({len(text.lstrip('-'))} digits)"
    text = " ".join(repr(value).split())
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def counted(number: int, thing: str) -> str:
    """A number of things for a message.

    Example:
        >>> counted(1, "row"), counted(2000, "row")
        ('1 row', '2,000 rows')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def check_whole(
    name: str,
    value: Any,
    low: int | None,
    high: int,
    error: type[ValueError] = ValueError,
) -> None:
    """Refuses what is no whole number from ``low``, if there is such a bound, to ``high``.

    Example:
        >>> check_whole("epochs", 5.0, 1, 10)
        Traceback (most recent call last):
            ...
        ValueError: epochs=5.0: give a whole number, such as 5
        >>> check_whole("epochs", 0, 1, 10)
        Traceback (most recent call last):
            ...
        ValueError: epochs=0: must lie between 1 and 10
    """
    if isinstance(value, bool) or not _is_index(value):
        hint = f", such as {int(value)}" if _is_whole_float(value) else ""
        raise error(f"{name}={shown(value)}: give a whole number{hint}")
    if low is None and value > high:
        raise error(f"{name}={shown(value)}: must be at most {high}")
    if low is not None and not low <= value <= high:
        raise error(f"{name}={shown(value)}: must lie between {low} and {high}")


def check_real(
    name: str, value: Any, accepted: Any, wanted: str, error: type[ValueError] = ValueError
) -> None:
    """Refuses what is no number, or one that is not accepted; NaN never is.

    Arguments:
        name: of the argument.
        value: what was given.
        accepted: of a number, whether it may be; compares, and does not compute.
        wanted: which numbers may be, in words.
        error: type of the error.

    Example:
        >>> check_real("momentum", "0.5", lambda value: 0 <= value < 1, "must lie in [0, 1)")
        Traceback (most recent call last):
            ...
        ValueError: momentum='0.5': give a number
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise error(f"{name}={shown(value)}: give a number")
    if not accepted(value):
        raise error(f"{name}={shown(value)}: {wanted}")


def _is_index(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def _is_whole_float(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer() and abs(value) < 2**53
