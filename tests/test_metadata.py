"""What the package says of itself: metadata, citation, lowest versions, and its workflows."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import sfnn_pyro
from tests.lowest import floors, requirements

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PLACEHOLDER = re.compile(r"example\.(com|org)|your[-_]?name|TODO|FIXME|<[a-z]+@", re.IGNORECASE)


def jobs(path):
    return yaml.safe_load(path.read_text())["jobs"]


def pythons(classifiers):
    found = (
        re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", one) for one in classifiers
    )
    return [one[1] for one in found if one]


def test_the_metadata_are_whole_and_hold_no_placeholder():
    assert {"authors", "license", "license-files", "keywords", "classifiers"} <= set(PROJECT)
    assert all((ROOT / name).is_file() for name in PROJECT["license-files"])
    for name in ("pyproject.toml", "CITATION.cff", "NOTICE", "README.md", "CONTRIBUTING.md"):
        assert not PLACEHOLDER.search((ROOT / name).read_text()), name


def test_the_software_is_cited_with_its_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["type"] == "software" and citation["version"] == sfnn_pyro.__version__
    assert [one["name"] for one in citation["authors"]] == [
        one["name"] for one in PROJECT["authors"]
    ]
    (paper,) = citation["references"]
    assert paper["type"] == "conference-paper" and "1406.2989" in paper["url"]
    assert [one["family-names"] for one in paper["authors"]] == [
        "Raiko",
        "Berglund",
        "Alain",
        "Dinh",
    ]


def test_every_dependency_declares_a_lowest_version():
    assert all(re.fullmatch(r"[\w-]+(\[\w+\])?>=[\d.]+", one) for one in requirements())
    assert {"pyro-ppl", "typer", "matplotlib", "pytest"} <= set(floors())


def test_the_declared_pythons_are_those_of_the_matrix():
    declared = pythons(PROJECT["classifiers"])
    matrix = jobs(ROOT / ".github/workflows/tests.yml")["tests"]["strategy"]["matrix"]
    assert matrix["python"] == declared
    assert PROJECT["requires-python"] == f">={declared[0]}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_make_targets_that_exist(path):
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    for job in jobs(path).values():
        assert "runs-on" in job or (ROOT / job["uses"]).is_file()
        for step in job.get("steps", ()):
            assert ("run" in step) != ("uses" in step)
            assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w-]+@[\w./]+", step["uses"])
            if step.get("run", "").startswith("make "):
                assert set(step["run"].split()[1:]) <= targets


def test_a_release_is_tested_and_published_without_a_password():
    release = jobs(ROOT / ".github/workflows/release.yml")
    publish = release["publish"]
    assert publish["permissions"] == {"id-token": "write"} and "environment" in publish
    assert publish["needs"] == "build" and release["build"]["needs"] == "tests"
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text()
