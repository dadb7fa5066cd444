"""Commands in messages, so that they can be pasted into a shell."""

import shlex
from typing import Any


def command(*words: Any) -> str:
    """A command in quotation marks, its words quoted where a shell needs that.

    Example:
        >>> command("sfnn", "evaluate", "run")
        "'sfnn evaluate run'"
        >>> command("sfnn", "evaluate", "my run")
        "`sfnn evaluate 'my run'`"
    """
    text = shlex.join(map(str, words))
    return f"`{text}`" if "'" in text else f"'{text}'"
