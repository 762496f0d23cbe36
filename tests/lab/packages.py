"""Packages of the archive, fetched and unpacked without being installed."""

from __future__ import annotations

import os
import re
import subprocess
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


@cache
def refresh() -> None:
    """Bring the archive's package lists up to date, once a run, where that can be done."""
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    with locked("apt-lists"):
        say("reading the archive's package lists")
        try:
            run(*as_root, "apt-get", "update", "-qq")
        except (RuntimeError, OSError):
            say("the package lists cannot be refreshed: taking them as they are")


def _fields(package: str) -> dict[str, str]:
    shown = run("apt-cache", "show", "--no-all-versions", package)
    return dict(re.findall(r"^([\w-]+): (.*)$", shown, re.MULTILINE))


@cache
def version(package: str) -> str:
    """Return the version of ``package`` that the archive offers today.

    :raises Missing: the archive has no such package.
    """
    refresh()
    try:
        return _fields(package)["Version"]
    except (RuntimeError, KeyError):
        raise Missing(f"the package archive has no {package}") from None


def dependency(package: str, pattern: str) -> str:
    """Return the package matching ``pattern`` that ``package`` depends on."""
    version(package)
    found = re.search(rf"\b({pattern})\b", _fields(package).get("Depends", ""))
    if not found:
        raise Missing(f"the package archive's {package} names no {pattern}")
    return found[1]


def libraries(package: str) -> list[str]:
    """Return the library packages that ``package`` needs, the C library aside."""
    version(package)
    listed = run(
        "apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests",
        "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances", package,
    )  # fmt: skip
    names = set(re.findall(r"^(lib[\w.+-]+)$", listed, re.MULTILINE))
    return sorted(n for n in names if not re.match(r"libc6|libgcc|libcrypt", n))


def unpacked(package: str, *only: str) -> Path:
    """Return a folder with the files of ``package``; only those paths if given.

    The package file itself is not kept: the largest is close to a gigabyte.
    """
    offered = version(package)

    def make(folder: Path) -> None:
        download = folder / "download"
        download.mkdir(mode=0o777)
        say(f"{package} {offered}: fetching")
        run("apt-get", "download", "-qq", f"{package}={offered}", cwd=download)
        (archive,) = download.glob("*.deb")
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE
        ) as tar:
            run_tar = ["tar", "-x", "-C", str(folder), *(f"./{path}" for path in only)]
            subprocess.run(run_tar, stdin=tar.stdout, check=True)
        archive.unlink()
        download.rmdir()

    return product(f"package-{package}", (1, offered, only), make)
