"""The code on the pages of docs/ runs."""

import re
from pathlib import Path

import pytest

from sfnn_pyro.estimators import ESTIMATORS

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("page", ["add-your-own.md", "compatibility.md", "estimators.md"])
def test_code_runs(page):
    import torch

    torch.set_default_dtype(torch.float32)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert blocks
    scope = {}
    for block in blocks:
        exec(compile(block, page, "exec"), scope)


def test_every_estimator_is_on_the_page():
    text = (DOCS / "estimators.md").read_text()
    for name, estimator in ESTIMATORS.items():
        assert f"`{estimator.__name__}`" in text, name
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))
        declared = "yes" if estimator(num_particles=2).unbiased else "no"
        assert f"| {declared}" in row, row


def test_links_between_pages_exist():
    pages = ["add-your-own", "comparison", "compatibility", "draw", "estimators", "own-data", "vae"]
    for page in (f"{name}.md" for name in pages):
        for link in re.findall(r"\]\(([^)#]+)\)", (DOCS / page).read_text()):
            assert link.startswith("http") or (DOCS / link).exists(), link
