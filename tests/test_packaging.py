"""The wheel and the sdist hold the tree's modules under one import name, and nothing else."""

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
IS_CHECKOUT = (ROOT / ".git").exists()
"""Else the tests were unpacked from an sdist, in which the links are copies."""

FOLDERS = {"sfnn_pyro": "sfnn_pyro", "models": "sfnn_pyro/models", "guides": "sfnn_pyro/guides",
           "experiments": "sfnn_pyro/experiments"}  # fmt: skip


def modules_of_the_tree() -> set[str]:
    found = set()
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            relative = path.relative_to(ROOT / folder)
            if folder != "sfnn_pyro" or relative.parts[0] not in FOLDERS:
                found.add(f"{package}/{relative.as_posix()}")
    return found


def files_of_the_checkout() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True,
    ).stdout.decode().split("\0")  # fmt: skip
    return [name for name in listed if (ROOT / name).is_file() or (ROOT / name).is_symlink()]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """A wheel and an sdist, built from a copy so that the checkout stays clean."""
    if not IS_CHECKOUT:
        pytest.skip("builds from what Git lists")
    out = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source") / "sfnn_pyro"
    for name in files_of_the_checkout():
        path = ROOT / name
        if path.is_symlink():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).symlink_to(path.readlink())
        elif path.is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(path.read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source],
        check=True, capture_output=True,
    )  # fmt: skip
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


@pytest.mark.slow
def test_wheel_holds_exactly_the_modules_of_the_tree(distributions):
    names = set(zipfile.ZipFile(distributions[0]).namelist())
    assert {name for name in names if name.endswith(".py")} == modules_of_the_tree()
    assert {"sfnn_pyro/py.typed", "sfnn_pyro/data/digits.npz"} <= names
    licences = {name.partition("/licenses/")[2] for name in names if "/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}
    page = {path.name for path in (ROOT / "sfnn_pyro/web/page").iterdir()}
    assert {name for name in names if "/web/page/" in name} == {
        f"sfnn_pyro/web/page/{name}" for name in page
    }
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"sfnn_pyro"}


@pytest.mark.slow
def test_sdist_holds_all_that_its_tests_read(distributions):
    with tarfile.open(distributions[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    links = {f"sfnn_pyro/{folder}" for folder in ("models", "guides", "experiments")}
    listed = set(files_of_the_checkout()) - links
    assert {name for name in listed if not name.startswith(".")} <= names
    assert ".github/workflows/tests.yml" in names
    copies = {name for name in names if name.startswith(("models/", "guides/", "experiments/"))}
    assert {f"sfnn_pyro/{name}" for name in copies} <= names


@pytest.mark.slow
def test_only_sfnn_pyro_is_importable_after_installation(distributions, tmp_path):
    venv.create(tmp_path / "env", with_pip=False, system_site_packages=False)
    python = tmp_path / "env/bin/python"
    site = tmp_path / "site"
    with zipfile.ZipFile(distributions[0]) as wheel:
        wheel.extractall(site)
    code = (
        "import importlib.util as u, sys; sys.path.insert(0, sys.argv[1]);"
        "print([n for n in ('sfnn_pyro', 'models', 'guides', 'experiments') if u.find_spec(n)])"
    )
    found = subprocess.run(
        [python, "-I", "-c", code, site], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert found.stdout.strip() == "['sfnn_pyro']"


@pytest.mark.skipif(not IS_CHECKOUT, reason="an sdist holds copies")
def test_symlinks_lead_to_the_folders():
    for folder in ("models", "guides", "experiments"):
        link = ROOT / "sfnn_pyro" / folder
        assert link.is_symlink()
        assert link.resolve() == ROOT / folder
