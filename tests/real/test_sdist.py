# SPDX-License-Identifier: GPL-3.0-or-later
"""The source distribution: it has what a clone has, and builds, for pip too."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What a clone does not have
MADE = shutil.ignore_patterns(
    ".*", "build", "dist", "*.egg-info", "__pycache__", "*.so", "*.pyc", "*.vmcore"
)


def run(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def setup(folder: Path, *words: str) -> None:
    done = run(folder, "setup.py", "--quiet", *words)
    assert done.returncode == 0, done.stdout


def wheel(folder: Path, source: Path) -> Path:
    """Return the wheel that pip builds from a folder with the sources, as a user has it build."""
    words = ("-m", "pip", "wheel", "--no-deps", "--disable-pip-version-check", "-w", folder, source)
    done = run(folder, *words)
    if done.returncode and "Could not find a version" in done.stdout:
        warnings.warn(
            "pip reaches no index of packages, so it builds the wheel without isolation",
            stacklevel=1,
        )
        done = run(folder, *words, "--no-build-isolation")
        if done.returncode and "bdist_wheel" in done.stdout:
            pytest.skip("pip reaches no index of packages, and there is no package wheel here")
    assert done.returncode == 0, done.stdout
    (built,) = folder.glob("*.whl")
    return built


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of this clone, without what was made in it."""
    shutil.copytree(ROOT, tmp_path / "clone", ignore=MADE)
    return tmp_path / "clone"


@pytest.fixture
def unpacked(clone: Path, tmp_path: Path) -> Path:
    """The source distribution of the clone, unpacked."""
    sources = tmp_path / "sources"
    shutil.copytree(clone, sources)
    setup(sources, "sdist", "--dist-dir", str(tmp_path))
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "unpacked")
    (root,) = (tmp_path / "unpacked").iterdir()
    return root


def test_an_sdist_has_every_file_of_a_clone_and_builds(
    clone: Path, unpacked: Path, tmp_path: Path
) -> None:
    wanted = files(clone)
    assert {"setup.py", "README.md", "LICENSE", "tests/lab/guest.c"} <= wanted
    assert wanted <= files(unpacked)
    setup(unpacked, "build_ext", "--build-lib", str(tmp_path / "lib"))
    built = {path.name for path in (tmp_path / "lib").rglob("*.so")}
    assert built == {"crash_host.so", "p2m_preload.so", "stub.so"}


def test_pip_builds_a_wheel_from_an_sdist(unpacked: Path, tmp_path: Path) -> None:
    package = {name for name in files(unpacked) if name.startswith("pykdump_ext/")}
    with zipfile.ZipFile(wheel(tmp_path, unpacked)) as archive:
        found = {*archive.namelist()}
    assert {name for name in package if name.endswith((".py", "py.typed"))} <= found
    assert {name for name in found if name.endswith(".so")} == {
        "pykdump_ext/host/crash_host.so", "pykdump_ext/launch/p2m_preload.so",
        "pykdump_ext/launch/stub.so",
    }  # fmt: skip
    assert any(name.endswith("/share/man/man1/p2mfix.1") for name in found)
    assert not any(name.startswith(("tests", "examples")) or name.endswith(".c") for name in found)
