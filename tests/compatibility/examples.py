"""Pyro's examples with our estimators, a few steps each."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

from tests.compatibility.replacements import USAGE, replace

ROOT = Path(__file__).parent.parent.parent
EXAMPLES: list[tuple[str, list[str]]] = []


def run_example(checkout: Path, name: str, options: list[str], seconds: int) -> dict[str, str]:
    """Runs one example in a process of its own; the last line of its error is its result."""
    command = [sys.executable, "-m", "tests.compatibility.examples", checkout / "examples" / name]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [*command, *options],
            cwd=ROOT,
            env=environment,
            timeout=seconds,
            capture_output=True,
            text=True,
        )
        lines = done.stderr.strip().splitlines() or [""]
        result = "passed" if done.returncode == 0 else lines[-1]
    except subprocess.TimeoutExpired:
        result = f"longer than {seconds} seconds"
    return {"example": name, "options": " ".join(options), "result": result}


def main() -> None:
    script = Path(sys.argv[1])
    del sys.argv[0]
    sys.path[0:0] = [str(script.parent)]
    replace()
    runpy.run_path(str(script), run_name="__main__")
    if not USAGE.used:
        sys.exit("no loss of Pyro that is replaced was used")


if __name__ == "__main__":
    main()
