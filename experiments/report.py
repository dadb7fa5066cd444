"""The report: tables and figures beside the paper's numbers, from the result files alone."""

from __future__ import annotations

import base64
import html
import io
import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfnn_pyro.experiments.grid import Grid, Row, select
from sfnn_pyro.experiments.plots import draw
from sfnn_pyro.experiments.results import read_results
from sfnn_pyro.system.atomic_files import replacing, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    "method",
    "paper",
    "ours",
    "above the best, same splits",
    "runs",
    "learning rate",
    "test bound, 100 samples",
    "gradient variance",
    "note",
)
OPTIONAL = (
    "paper",
    "above the best, same splits",
    "test bound, 100 samples",
    "gradient variance",
    "note",
)
"""Columns that only some tables have."""

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-size: 0.9rem; }
th, td { border-bottom: 1px solid #8884; padding: 0.3rem 0.6rem; text-align: left; }
td:nth-child(2), td:nth-child(3) { white-space: nowrap; }
figure { display: inline-block; margin: 0.5rem; max-width: 100%; }
figure img { max-width: 100%; background: white; }
figcaption { font-size: 0.8rem; }
@media (prefers-color-scheme: dark) { body { background: #16181d; color: #e8e8ea; } }
"""


@dataclass(frozen=True)
class Line:
    """A row of a table with what the results say about it.

    Arguments:
        row: of the grid.
        by_seed: the test measure of every run at the chosen learning rate.
        failures: runs at that rate that became infinite.
        rate: the learning rate, or None.
        tried: how many rates have a result.
        complete: whether the choice of the rate is final.
        above: where seeds choose the split of the data, how much more every run has than that of
            the best row with the same seed.
        test_bounds, variances: of an unsupervised network, its negative bound of many samples of
            the test images, and the variance of its encoder's gradient, of every run.
    """

    row: Row
    by_seed: Mapping[int, float]
    failures: int
    rate: float | None
    tried: tuple[float, ...]
    complete: bool
    above: tuple[float, ...] = ()
    test_bounds: tuple[float, ...] = ()
    variances: tuple[float, ...] = ()

    @property
    def values(self) -> tuple[float, ...]:
        """The measures alone."""
        return tuple(self.by_seed.values())

    @property
    def mean(self) -> float | None:
        """Mean over the runs; None without any."""
        return statistics.fmean(self.values) if self.values else None

    def cells(self) -> tuple[str, ...]:
        """The texts of the row's cells; a cell without runs is empty."""
        runs = str(len(self.values)) if self.values else ""
        if self.failures:
            runs += f"{' + ' if runs else ''}{self.failures} diverged"
        return (
            self.row.label,
            self.row.paper,
            self._ours(),
            self._above(),
            runs,
            self._rate(),
            _spread(self.test_bounds, "{:.2f}"),
            f"{statistics.fmean(self.variances):.2g}" if self.variances else "",
            self.row.note,
        )

    def _ours(self) -> str:
        if self.mean is None:
            return ""
        return _spread(self.values, "{:.3f}" if abs(self.mean) < 1 else "{:.2f}")

    def _above(self) -> str:
        if not self.above:
            return ""
        text = f"{statistics.fmean(self.above):.2f}"
        if len(self.above) > 1 and any(self.above):
            error = statistics.stdev(self.above) / math.sqrt(len(self.above))
            text += f" ± {2 * error:.2f}"
        return text

    def _rate(self) -> str:
        if self.rate is None:
            return ""
        if len(self.tried) == 1 and self.complete:
            return f"{self.rate:g}"
        tried = ", ".join(f"{rate:g}" for rate in sorted(self.tried))
        return f"{self.rate:g} of {tried}{'' if self.complete else ' so far'}"


def _spread(values: Sequence[float], form: str) -> str:
    """Mean ± two standard deviations; empty without values."""
    if not values:
        return ""
    text = form.format(statistics.fmean(values))
    return f"{text} ± {form.format(2 * statistics.stdev(values))}" if len(values) > 1 else text


def summarise(grid: Grid, results: Mapping[str, dict[str, Any]]) -> list[Line]:
    """What the results say about every row of a grid."""
    lines = []
    for row in grid.rows:
        found = select(row, grid.measure, results)
        evaluated = [one.get("evaluations", {}).get(row.evaluate) for one in found.results]
        by_seed = {
            result["config"]["seed"]: one[grid.split][grid.measure]
            for result, one in zip(found.results, evaluated, strict=True)
            if one is not None
        }
        lines.append(
            Line(
                row=row,
                by_seed=by_seed,
                failures=len(evaluated) - len(by_seed),
                rate=found.rate,
                tried=tuple(found.tried),
                complete=not found.missing,
                test_bounds=tuple(
                    one["test"]["negative_log_likelihood"]
                    for one in evaluated
                    if one is not None and row.run.is_vae
                ),
                variances=tuple(
                    result["gradient_variance"]
                    for result in found.results
                    if "gradient_variance" in result
                ),
            )
        )
    return _paired(lines)


def _paired(lines: list[Line]) -> list[Line]:
    """With the differences within splits, where the seeds choose them.

    The spread between splits would hide them: some people's faces are harder than others'.
    """
    found = [line for line in lines if line.row.run.split_by_seed and line.mean is not None]
    if len(found) < 2:
        return lines
    best = min(found, key=lambda line: line.mean or 0.0)
    return [
        replace(
            line,
            above=tuple(
                value - best.by_seed[seed]
                for seed, value in line.by_seed.items()
                if seed in best.by_seed
            ),
        )
        if line in found
        else line
        for line in lines
    ]


def has_results(grid: Grid, results: Mapping[str, dict[str, Any]]) -> bool:
    """Whether any run of a grid has a result."""
    return any(select(row, grid.measure, results).tried for row in grid.rows)


def write_report(grids: Sequence[Grid], folder: Path, *, quick: bool = False) -> Path:
    """Writes one self-contained HTML page, a Markdown file and the figures as PNG.

    Arguments:
        grids: what to report on.
        folder: of results; ``report.html``, ``report.md`` and ``figures`` are written there.
        quick: whether to call the page ``report-quick``.

    Returns:
        The path of the page.
    """
    results = read_results(folder)
    name = "report-quick" if quick else "report"
    pages, texts = [], []
    for grid in grids:
        lines = summarise(grid, results)
        drawn = {key: _png(figure) for key, figure in draw(grid, results).items()}
        for key, png in drawn.items():
            with replacing(folder / "figures" / f"{key}.png") as file:
                file.write(png)
        texts.append(_markdown(grid, lines, list(drawn)))
        pages.append(_section(grid, lines, drawn))
    used = _provenance(grids, results)
    write_text(folder / f"{name}.md", "\n".join(["# Reproduction", "", used, "", *texts]))
    path = folder / f"{name}.html"
    write_text(path, _page(used, pages))
    return path


def as_table(grid: Grid, results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What the results say about a grid, fit for JSON; ``runs`` are the measures by seed."""
    return {
        "name": grid.name,
        "title": grid.title,
        "measure": grid.measure,
        "unit": grid.unit,
        "rows": [
            {
                "method": line.row.label,
                "paper": line.row.paper or None,
                "mean": line.mean,
                "runs": {str(seed): value for seed, value in line.by_seed.items()},
                "diverged": line.failures,
                "learning_rate": line.rate,
                "learning_rates_tried": list(line.tried),
                "complete": line.complete,
            }
            for line in summarise(grid, results)
        ],
    }


def _provenance(grids: Sequence[Grid], results: Mapping[str, dict[str, Any]]) -> str:
    names = {
        run.name
        for grid in grids
        for row in grid.rows
        for rate in select(row, grid.measure, results).tried
        for run in (row.at(rate, seed) for seed in range(row.seeds))
        if run.name in results
    }
    hours = sum(results[name]["seconds"] for name in names) / 3600
    processors = Counter(results[name]["machine"]["processor"] for name in names)
    machines = "; ".join(f"{count} on {name}" for name, count in processors.most_common())
    return (
        f"{len(names)} runs, {hours:.1f} hours of computing ({machines or 'none yet'}). Ours: "
        "mean ± two standard deviations over runs with different seeds, as in the paper; the "
        "learning rate is the best on validation data, compared with seed 0. Empty cells have "
        "no run yet."
    )


def _markdown(grid: Grid, lines: Sequence[Line], figures: Sequence[str]) -> str:
    parts = [f"## {grid.title}", ""]
    columns = _columns(lines)
    parts.append("| " + " | ".join(_heading(grid, columns)) + " |")
    parts.append("|" + " --- |" * len(columns))
    for line in lines:
        cells = line.cells()
        parts.append("| " + " | ".join(cells[number] for number in columns) + " |")
    parts += ["", *_remarks(grid, lines)]
    parts += [f"![{name}](figures/{name}.png)" for name in figures]
    return "\n".join(parts) + "\n"


def _section(grid: Grid, lines: Sequence[Line], figures: Mapping[str, bytes]) -> str:
    columns = _columns(lines)
    head = "".join(f"<th>{html.escape(text)}</th>" for text in _heading(grid, columns))
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(line.cells()[n])}</td>" for n in columns) + "</tr>"
        for line in lines
    )
    remarks = "".join(f"<p>{html.escape(text)}</p>" for text in _remarks(grid, lines) if text)
    pictures = "".join(
        f'<figure><img alt="{name}" src="data:image/png;base64,'
        f'{base64.b64encode(png).decode()}"><figcaption>{name}</figcaption></figure>'
        for name, png in figures.items()
    )
    title = html.escape(grid.title)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<section id="{grid.name}"><h2>{title}</h2>{table}{remarks}{pictures}</section>'


def _page(used: str, sections: Sequence[str]) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Reproduction</title>'
        f"<style>{STYLE}</style></head><body><h1>Reproduction</h1><p>{html.escape(used)}</p>"
        + "\n".join(sections)
        + "</body></html>\n"
    )


def _columns(lines: Sequence[Line]) -> list[int]:
    """Optional columns are there where they hold anything."""
    present = [any(line.cells()[number] for line in lines) for number in range(len(COLUMNS))]
    return [n for n, name in enumerate(COLUMNS) if present[n] or name not in OPTIONAL]


def _heading(grid: Grid, columns: Sequence[int]) -> list[str]:
    return [f"{COLUMNS[n]}, {grid.unit}" if COLUMNS[n] == "ours" else COLUMNS[n] for n in columns]


def _remarks(grid: Grid, lines: Sequence[Line]) -> list[str]:
    remarks = [grid.note] if grid.note else []
    both = [(line, _number(line.row.paper)) for line in lines if line.mean is not None]
    ranked = [(line, number) for line, number in both if number is not None]
    if len(ranked) > 1:
        ours = sorted(ranked, key=lambda pair: pair[0].mean or 0.0)
        paper = sorted(ranked, key=lambda pair: pair[1] or 0.0)
        remarks += [
            f"Best first, ours: {'; '.join(line.row.label for line, _ in ours)}.",
            f"Best first, paper: {'; '.join(line.row.label for line, _ in paper)}.",
        ]
    return [text for remark in remarks for text in (remark, "")]


def _number(text: str) -> float | None:
    found = re.match(r"\d+(\.\d+)?", text)
    return float(found.group()) if found else None


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # No date nor version inside, so that the same results give the same bytes.
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()
