"""The one error that this package raises for data it cannot use."""


class DataError(ValueError):
    """A file, a site or an argument that gives no usable data.

    The message is one line: it names the culprit, says what is wrong with it, and ends with
    the way out.
    """
