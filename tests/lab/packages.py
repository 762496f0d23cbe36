# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages of the archive, fetched and unpacked without being installed."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .cache import locked, product, say


class Missing(Exception):
    """The package archive does not offer something; the text says what."""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command and return what it printed; its errors end the lab run."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
    )
    if done.returncode:
        words = " ".join(str(word) for word in command)
        raise RuntimeError(f"{words}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def as_root(*command: str | Path) -> tuple[str | Path, ...]:
    """Return the command as root runs it."""
    return command if os.geteuid() == 0 else ("sudo", *command)


@dataclass(frozen=True)
class Archive:
    """The packages of a release of the distribution, by its own package lists.

    ``root`` is a folder that has the release in it; None is this machine's own.
    """

    root: Path | None = None

    def run(self, *command: str | Path) -> str:
        """Run a command where this release's package tools are."""
        return run(*command) if self.root is None else run(*as_root("chroot", self.root, *command))

    def version(self, package: str) -> str:
        """Return the version of ``package`` that the archive offers today.

        :raises Missing: the archive has no such package.
        """
        return _shown(self, package)["Version"]

    def dependency(self, package: str, pattern: str) -> str:
        """Return the package matching ``pattern`` that ``package`` depends on."""
        found = re.search(rf"(?<![\w.+-])({pattern})(?![\w.+-])", _shown(self, package)["Depends"])
        if not found:
            raise Missing(f"the package archive's {package} names no {pattern}")
        return found[1]

    def libraries(self, package: str) -> list[str]:
        """Return the library packages that ``package`` needs, the C library aside."""
        self.version(package)
        listed = self.run(
            "apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests",
            "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances", package,
        )  # fmt: skip
        names = set(re.findall(r"^(lib[\w.+-]+)$", listed, re.MULTILINE))
        return sorted(n for n in names if not re.match(r"libc6|libgcc|libcrypt", n))

    def unpacked(self, package: str, *only: str) -> Path:
        """Return a folder with the files of ``package``; only what the patterns match, if given.

        The package file itself is not kept: the largest is close to a gigabyte.
        """
        offered = self.version(package)

        def make(folder: Path) -> None:
            say(f"{package} {offered}: fetching")
            archive = self._fetch(f"{package}={offered}", folder)
            with subprocess.Popen(
                ["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE
            ) as tar:
                patterns = ["--wildcards", *(f"./{pattern}" for pattern in only)] if only else []
                words = ["tar", "-x", "-C", str(folder), *patterns]
                subprocess.run(words, stdin=tar.stdout, check=True)
            archive.unlink()

        return product(f"package-{package}", (1, offered, only), make)

    def file(self, package: str, pattern: str) -> Path:
        """Return the one file of ``package`` that matches, wherever a release puts it."""
        return next(self.unpacked(package).glob(f"**/{pattern}"))

    def _fetch(self, package: str, folder: Path) -> Path:
        """Download a package file into ``folder``; return its path."""
        if self.root is None:
            run("apt-get", "download", "-qq", package, cwd=folder)
            return next(folder.glob("*.deb"))
        with locked(f"fetch-{self.root.name}"):
            for old in (self.root / "root").glob("*.deb"):
                run(*as_root("rm", old))
            self.run("sh", "-c", f"cd /root && apt-get download -qq '{package}' && chmod a+r *.deb")
            fetched = next((self.root / "root").glob("*.deb"))
            run(*as_root("mv", fetched, folder))
        return folder / fetched.name


HOST = Archive()


@cache
def refresh() -> None:
    """Bring this machine's package lists up to date, once a run, where that can be done."""
    with locked("apt-lists"):
        say("reading the archive's package lists")
        try:
            run(*as_root("apt-get", "update", "-qq"))
        except (RuntimeError, OSError):
            say("the package lists cannot be refreshed: taking them as they are")


@cache
def _shown(archive: Archive, package: str) -> dict[str, str]:
    if archive.root is None:
        refresh()
    try:
        shown = archive.run("apt-cache", "show", "--no-all-versions", package)
    except RuntimeError:
        shown = ""
    fields = dict(re.findall(r"^([\w-]+): (.*)$", shown, re.MULTILINE))
    if "Version" not in fields:
        raise Missing(f"the package archive has no {package}")
    return fields
