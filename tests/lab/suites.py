# SPDX-License-Identifier: GPL-3.0-or-later
"""Other releases of the distribution, each in a folder: crash, Python and kernels of theirs."""

from __future__ import annotations

import hashlib
import platform
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tomllib

from .cache import hold, locked, note_use, product, say, unused
from .packages import HOST, Archive, Missing, as_root, refresh, run

PACKAGES = (
    "crash", "gcc", "libc6-dev", "zlib1g-dev", "libpython3-dev", "python3-venv", "makedumpfile",
)  # fmt: skip
SOURCE = Path(__file__).parents[2]
FRESH = 4 * 3600  # seconds that a release counts as up to date: no session of it is disturbed
# A release that is no longer maintained, or not yet released, has an expired release file
ANY_AGE = 'Acquire::Check-Valid-Until "false";'


@dataclass(frozen=True)
class Suite:
    """A release of the distribution in a folder."""

    name: str
    root: Path

    @property
    def archive(self) -> Archive:
        """The release's packages."""
        return Archive(self.root)

    def command(self, binds: Sequence[Path], *words: str | Path) -> list[str]:
        """Return the command that runs ``words`` in the folder.

        The folders ``binds`` of this machine are there at the same paths; the
        mounts end with the command.
        """
        mounts = [f"mount --rbind '{path}' '{self.root}{path}'" for path in binds]
        for path in binds:
            run(*as_root("mkdir", "-p", f"{self.root}{path}"))
        script = "; ".join(
            ["set -e", f"mount -t proc proc '{self.root}/proc'",
             f"mount --rbind /dev '{self.root}/dev'", *mounts,
             f"exec chroot '{self.root}' \"$@\""]
        )  # fmt: skip
        return [
            str(word)
            for word in as_root(
                "unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *words
            )
        ]

    def crash_version(self) -> str:
        """Return the version of the release's crash."""
        shown = run(*as_root("chroot", self.root, "crash", "--version"))
        found = re.search(r"^crash (\S+)$", shown, re.MULTILINE)
        assert found, shown
        return found[1]

    def python_version(self) -> str:
        """Return the version of the release's Python."""
        return run(*as_root("chroot", self.root, "python3", "--version")).split()[1]


def mirror() -> str:
    """Return the address that this machine has the distribution's packages from.

    :raises Missing: its package lists name none.
    """
    refresh()
    words = ("--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian")
    found = run("apt-get", "indextargets", *words).split()
    if not found:
        raise Missing("this machine's package lists are not those of Debian")
    return found[0]


@cache
def own() -> str:
    """Return the name of this machine's own release, such as ``bookworm``; else nothing."""
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "")


def archive(name: str) -> Archive:
    """Return the packages of the release ``name``: this machine's own, or those of a folder.

    :raises Missing: the archive does not have this release any more.
    """
    return HOST if name == own() else suite(name).archive


@cache
def suite(name: str) -> Suite:
    """Return the release ``name`` with the newest packages it has.

    :raises Missing: the archive does not have this release any more.
    """

    def make(folder: Path) -> None:
        say(f"{name}: unpacking the release, half a minute")
        try:
            run(
                *as_root("mmdebstrap"), "--variant=apt", f"--include={','.join(PACKAGES)}",
                f"--aptopt={ANY_AGE}", name, folder / "root", mirror(),
            )  # fmt: skip
        except RuntimeError as error:
            raise Missing(f"the package archive has no usable release {name}: {error}") from None

    root = product(f"release-{name}", (1, name, PACKAGES), make) / "root"
    fresh = root.with_name("fresh")
    with locked(f"release-{name}"):
        if fresh.exists() and time.time() - fresh.stat().st_mtime < FRESH:
            return Suite(name, root)
        say(f"{name}: bringing it up to date")
        inside = Archive(root)
        try:
            inside.run("apt-get", "update", "-qq")
            inside.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES)
        except RuntimeError:
            say(f"{name}: cannot be brought up to date, taking it as it is")
        fresh.touch()
    return Suite(name, root)


def _wheels(python: str) -> Path:
    """Return a folder with what the build and the package need, for that version of Python."""
    version = ".".join(python.split(".")[:2])
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    wanted = ["setuptools", "wheel", *project["dependencies"]]
    tags = ("manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28")
    platforms = [word for tag in tags for word in ("--platform", f"{tag}_x86_64")]

    def make(folder: Path) -> None:
        run(
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--only-binary=:all:", *platforms, "--python-version", version, "--dest", folder,
            *wanted,
        )  # fmt: skip

    return product(f"wheels-{version}", (3, version, wanted), make)


KEPT = 3  # older states of the sources that stay installed
PARTS = ("setup.py", "pyproject.toml", "README.md", "pykdump_ext")


def _fingerprint(suite: Suite) -> str:
    """Return a hash of all that is installed, and of what it is built with."""
    value = hashlib.sha256(repr((1, suite.crash_version(), suite.python_version())).encode())
    for part in PARTS:
        files = [SOURCE / part, *sorted((SOURCE / part).rglob("*"))]
        for path in (p for p in files if p.is_file() and "__pycache__" not in p.parts):
            value.update(f"{path.relative_to(SOURCE)}\0".encode() + path.read_bytes())
    return value.hexdigest()[:12]


def install(suite: Suite) -> Path:
    """Build and install the package of this clone in the release, as a user of it would.

    Return the folder, inside the release's, of the environment that has it.  Each state of
    the sources has its own, so that no run changes what another one runs; the newest stay,
    and those that a running process uses.
    """
    home = Path(f"/opt/pykdump-{_fingerprint(suite)}")
    folder = Path(f"{suite.root}{home}")
    made = folder / "made"
    hold(folder)
    if made.exists():
        note_use(folder)
        return home
    copy = f"{suite.root}/opt/source"
    wheels = _wheels(suite.python_version())
    with locked(f"install-{suite.name}"):
        if made.exists():
            return home
        for old in sorted(suite.root.glob("opt/pykdump*"), key=lambda p: p.stat().st_mtime)[:-KEPT]:
            with unused(old) as free:
                if free:
                    run(*as_root("rm", "-rf", old))
        run(*as_root("rm", "-rf", copy, folder))
        run(*as_root("mkdir", "-p", copy))
        run(*as_root("cp", "-r", *(SOURCE / part for part in PARTS), copy))
        script = (
            f"python3 -m venv {home} && cd /opt/source &&"
            f" PIP_NO_INDEX=1 PIP_FIND_LINKS={wheels} {home}/bin/pip install -q . &&"
            f" touch {home}/made"
        )
        run(*suite.command([wheels], "sh", "-c", script))
    return home
