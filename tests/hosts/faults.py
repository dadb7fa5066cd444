"""The table of what was cut or killed, when, what happened, and what it cost."""

import time
from dataclasses import dataclass, field


@dataclass
class Faults:
    """Rows that a run of the tests prints at its end, for docs/distributed.md."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def note(self, engine: str, fault: str, outcome: str, seconds: float | None = None) -> None:
        self.rows.append((engine, fault, outcome, "" if seconds is None else f"{seconds:.0f}"))

    def table(self) -> list[str]:
        lines = [
            "| engine | fault | what happened | seconds until the next step, or the end |",
            "|---|---|---|---|",
        ]
        return [*lines, *(f"| {' | '.join(row)} |" for row in self.rows)]


class Clock:
    """Seconds since something was broken."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


FAULTS = Faults()
