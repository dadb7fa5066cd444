"""Commands in messages, so that they can be pasted into a shell."""

import shlex
from pathlib import Path
from typing import Any


def quoted(*words: Any) -> str:
    """Words as a shell reads them; a path that begins like an option is no option.

    Example:
        >>> quoted("sfnn", "evaluate", Path("my run")), quoted("sfnn", "evaluate", Path("-run"))
        ("sfnn evaluate 'my run'", 'sfnn evaluate ./-run')
    """
    return shlex.join(
        f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word)
        for word in words
    )


def command(*words: Any) -> str:
    """A command in quotation marks, its words quoted where a shell needs that.

    Example:
        >>> command("sfnn", "evaluate", "run")
        "'sfnn evaluate run'"
        >>> command("sfnn", "evaluate", "my run")
        "`sfnn evaluate 'my run'`"
    """
    text = quoted(*words)
    return f"`{text}`" if "'" in text else f"'{text}'"
