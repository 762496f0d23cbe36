# SPDX-License-Identifier: GPL-3.0-or-later
"""The source distribution: it builds, and has what a clone has."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What a clone does not have
MADE = shutil.ignore_patterns(
    ".*", "build", "dist", "*.egg-info", "__pycache__", "*.so", "*.pyc", "*.vmcore"
)


def setup(folder: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_an_sdist_has_every_file_of_a_clone_and_builds(tmp_path: Path) -> None:
    clone, unpacked = tmp_path / "clone", tmp_path / "unpacked"
    shutil.copytree(ROOT, clone, ignore=MADE)
    wanted = files(clone)
    assert {"setup.py", "README.md", "LICENSE", "tests/lab/guest.c"} <= wanted
    setup(clone, "sdist", "--dist-dir", str(tmp_path))
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(unpacked)
    (root,) = unpacked.iterdir()
    assert wanted <= files(root)
    setup(root, "build_ext", "--build-lib", str(tmp_path / "lib"))
    built = {path.name for path in (tmp_path / "lib").rglob("*.so")}
    assert built == {"crash_host.so", "p2m_preload.so"}
