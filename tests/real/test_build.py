# SPDX-License-Identifier: GPL-3.0-or-later
"""Building it: what is missing ends the build with one sentence that says what to install."""

from __future__ import annotations

import filecmp
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build(folder: Path, first: str = "", **variables: str) -> tuple[str, int]:
    """Run setup.py's build, after the Python lines ``first``; return what it said last."""
    program = f"{first}\nimport runpy, sys\nsys.argv = ['setup.py', '--quiet', 'build_ext'," + (
        f"'--build-temp', {str(folder / 'temp')!r}, '--build-lib', {str(folder / 'lib')!r}]\n"
        "runpy.run_path('setup.py', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, **variables},
        check=False,
    )
    return (done.stdout.strip().splitlines() or [""])[-1], done.returncode


def test_it_builds(tmp_path: Path) -> None:
    said, status = build(tmp_path)
    assert status == 0, said
    assert (tmp_path / "lib/pykdump_ext/host/crash_host.so").exists()


@pytest.mark.parametrize(
    ("first", "variables", "sentence"),
    [
        ("", {"CRASH": "nosuch"}, "crash is missing: install crash (Debian"),
        (
            "",
            {"CRASH_INCLUDE": "/nosuch"},
            "crash's header /nosuch/defs.h is missing: install crash (Debian, Ubuntu)"
            " or crash-devel (Oracle Linux, Fedora)",
        ),
        (
            "",
            {"CC": "nosuch"},
            "a C compiler is missing: install gcc and libc6-dev (Debian, Ubuntu) or gcc",
        ),
        (
            "import sysconfig; sysconfig.get_config_vars()['Py_ENABLE_SHARED'] = 0",
            {},
            "is missing: install libpython3-dev and use /usr/bin/python3 (Debian, Ubuntu)"
            " or python3-devel and use /usr/bin/python3",
        ),
        (
            "import sysconfig; sysconfig.get_config_vars()['LDVERSION'] = '3.99'",
            {},
            "libpython3.99.so is missing: install libpython3-dev (Debian, Ubuntu)",
        ),
        (
            "import sys; sys.modules['cffi'] = None",
            {},
            "cffi is missing: install python3-cffi",
        ),
        (
            "import sys; sys.modules['setuptools'] = None",
            {},
            "setuptools is missing: install python3-setuptools",
        ),
        (
            "import sys; sys.prefix = '/home/me/my venv'",
            {},
            "crash cannot load a file from '/home/me/my venv', because of the blank in this path:"
            " make the venv in another folder",
        ),
    ],
    ids=[
        "crash",
        "defs.h",
        "compiler",
        "static Python",
        "libpython",
        "cffi",
        "setuptools",
        "blank",
    ],
)
def test_a_missing_piece_is_one_sentence(
    tmp_path: Path, first: str, variables: dict[str, str], sentence: str
) -> None:
    said, status = build(tmp_path, first, **variables)
    assert status == 1
    assert said.startswith("pykdump_ext: ")
    assert sentence in said


def test_what_is_installed_is_what_is_tested(host: Path) -> None:
    installed = host.parent.parent
    sources = [p.relative_to(ROOT / "pykdump_ext") for p in (ROOT / "pykdump_ext").rglob("*.py")]
    _, different, missing = filecmp.cmpfiles(
        ROOT / "pykdump_ext", installed, [str(p) for p in sources], shallow=False
    )
    assert not different and missing in ([], ["host/build_host.py"])
    assert len(sources) > 15
