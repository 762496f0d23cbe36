# SPDX-License-Identifier: GPL-3.0-or-later
"""What setup.py makes: a source distribution that builds, for pip too; wheels, one without C."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import warnings
import zipfile
from pathlib import Path

import pytest

from tests.lab.dump import Dump

ROOT = Path(__file__).parents[2]
# What a clone does not have
MADE = shutil.ignore_patterns(
    ".*", "build", "dist", "*.egg-info", "__pycache__", "*.so", "*.pyc", "*.vmcore"
)


def run(
    folder: Path, *words: str | Path, python: str | Path = sys.executable, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *words],
        cwd=folder,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def setup(folder: Path, *words: str) -> None:
    done = run(folder, "setup.py", "--quiet", *words)
    assert done.returncode == 0, done.stdout


def wheel(folder: Path, source: Path, **variables: str) -> Path:
    """Return the wheel that pip builds from a folder with the sources, as a user has it build."""
    words = ("-m", "pip", "wheel", "--no-deps", "--disable-pip-version-check", "-w", folder, source)
    done = run(folder, *words, **variables)
    if done.returncode and "Could not find a version" in done.stdout:
        warnings.warn(
            "pip reaches no index of packages, so it builds the wheel without isolation",
            stacklevel=1,
        )
        done = run(folder, *words, "--no-build-isolation", **variables)
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


def test_without_the_host_all_works_that_needs_no_crash(
    clone: Path, truncated: Dump, tmp_path: Path
) -> None:
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    lacking = {"PATH": str(nothing), "CRASH_INCLUDE": str(nothing), "PYKDUMP_EXT_NO_HOST": "1"}
    built = wheel(tmp_path, clone, **lacking)
    assert built.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(built) as archive:
        assert not [name for name in archive.namelist() if name.endswith((".so", ".c", ".h"))]

    # A venv with this wheel, and with what else this one has
    venv.create(tmp_path / "venv", symlinks=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "others.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    python, programs = tmp_path / "venv/bin/python", tmp_path / "venv/bin"
    words = ("-m", "pip", "install", "--ignore-installed", "--no-deps", "--no-index", built)
    done = run(tmp_path, *words, python=python)
    assert done.returncode == 0, done.stdout
    del lacking["PYKDUMP_EXT_NO_HOST"]

    def says(name: str, *words: str | Path) -> tuple[int, str]:
        done = run(nothing, programs / name, *words, python=python, **lacking)
        return done.returncode, done.stdout

    files = (truncated.vmlinux, truncated.vmcore)
    status, text = says("p2mfix", "diagnose", "--json", *files)
    assert (status, json.loads(text)["verdict"]) == (0, "the list ends too early"), text
    status, text = says("p2mfix", "map", truncated.vmcore)
    assert status == 0 and "pfn" in text, text
    out = tmp_path / "linux.vmcore"
    status, text = says("p2mfix", "rewrite", "--linux", *files, out)
    out.unlink(missing_ok=True)
    assert status == 0 and "registers of 4 of 4 cpus" in text, text
    code = "print(prog.crashed_thread().object.comm.string_().decode())"
    assert says("p2mfix", "drgn", *files, "-q", "-e", code) == (0, "init\n")

    add = (
        "install crash, a C compiler and the header files that the README names, then run"
        f" {programs}/pip install --force-reinstall . in a clone of pykdump_ext\n"
    )
    assert says("p2mfix", *files) == (1, f"p2mfix: crash is not installed: {add}")
    without = f"pykdump-ext: pykdump_ext was installed without its part for crash: to add it, {add}"
    assert says("pykdump-ext", "host") == says("pykdump-ext", "setup") == (1, without)
    status, text = says("pykdump-ext", "doctor")
    assert status == 0 and "BAD" not in text, text
    assert f"no   host         left out when this was installed: to add it, {add}" in text
    last = "the commands of p2mfix work that need no crash; sessions of crash need the host\n"
    assert text.endswith(last)
