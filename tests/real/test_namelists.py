# SPDX-License-Identifier: GPL-3.0-or-later
"""Namelists as people have them, each with a dump whose list is absent.

Without a list crash cannot read anything, so that only a list which is rebuilt before crash
starts opens the dump.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pykdump_ext.linux.namelist import Namelist
from pykdump_ext.p2m.failure import Failure
from tests.lab.broken import DumpFile, copy_of, diagnosis
from tests.lab.dump import Dump
from tests.lab.guest import guest_dump

from . import broken_lists as lists
from .conftest import Once, Plain
from .outputs import printed, to_files
from .sessions import BIN, Crash, Ran

COMMANDS = ("rd -a linux_banner", "ps 1", "mod", "runq -c 0")
FORMS = {
    "gzip": ("vmlinux.gz",),
    "xz and a debug file": ("vmlinux.symbols.xz", "vmlinux.debug"),
    "debug file and bzip2": ("vmlinux.debug", "vmlinux.symbols.bz2"),
    "kernel and debug file": ("vmlinux.symbols", "vmlinux.debug"),
    "debug file and kernel": ("vmlinux.debug", "vmlinux.symbols"),
    "kernel that links to its debug file": ("vmlinux.linked",),
    "vmlinux and System.map": ("vmlinux", "System.map"),
}
THOROUGH = {"gzip", "debug file and bzip2", "debug file and kernel", "kernel and debug file"}


@pytest.fixture(scope="session")
def forms(once: Once, untouched: Dump) -> Path:
    """A folder with the forms of the lab's vmlinux."""

    def make(folder: Path) -> None:
        vmlinux = folder / "vmlinux"
        vmlinux.symlink_to(untouched.vmlinux)

        def run(*words: str | Path, to: str | None = None) -> None:
            if to is None:
                subprocess.run(words, cwd=folder, check=True)
                return
            with (folder / to).open("wb") as file:
                subprocess.run(words, cwd=folder, check=True, stdout=file)

        run("objcopy", "--only-keep-debug", vmlinux, "vmlinux.debug")
        run("objcopy", "--strip-debug", vmlinux, "vmlinux.symbols")
        run(
            "objcopy", "--add-gnu-debuglink=vmlinux.debug", "vmlinux.symbols", "vmlinux.linked"
        )  # fmt: skip
        run("objcopy", "--strip-all", vmlinux, "vmlinux.stripped")
        run("xz", "-0", "-c", "vmlinux.symbols", to="vmlinux.symbols.xz")
        run("nm", "-n", vmlinux, to="System.map")

    return once("namelists", make)


@pytest.fixture(scope="session")
def packed_forms(once: Once, forms: Path) -> Path:
    """The same folder with more files in it, which take long to make."""

    def make(folder: Path) -> None:
        for words, source, to in (
            (("gzip", "-1", "-c"), "vmlinux", "vmlinux.gz"),
            (("bzip2", "-1", "-c"), "vmlinux.symbols", "vmlinux.symbols.bz2"),
        ):
            with (folder / to).open("wb") as file:
                subprocess.run([*words, forms / source], check=True, stdout=file)
        for path in forms.iterdir():
            (folder / path.name).symlink_to(path)

    return once("namelists-packed", make)


@pytest.fixture(scope="session")
def absent(once: Once, untouched: Dump) -> Dump:
    """The dump without a list."""

    def make(folder: Path) -> None:
        lists.absent(DumpFile(copy_of(untouched, folder)), diagnosis(untouched))

    (vmcore,) = once("absent", make).iterdir()
    return Dump(untouched.vmlinux, vmcore)


@pytest.fixture(scope="session")
def wanted(plain: Plain, untouched: Dump) -> list[str]:
    """What crash prints on the untouched dump, with the whole vmlinux."""
    return plain("namelists", untouched, COMMANDS)


def opened(crash: Crash, *words: str | Path) -> tuple[Ran, list[str]]:
    """Run p2mfix, which becomes crash; return what the commands printed as well."""
    folder = crash.folder / "printed"
    ran = crash.run([BIN / "p2mfix", *words], [*to_files(COMMANDS, folder), "quit"])
    return ran, printed(folder) if ran.status == 0 else []


@pytest.mark.parametrize(
    "form",
    [pytest.param(f, marks=pytest.mark.thorough if f in THOROUGH else ()) for f in FORMS],
)
def test_a_dump_without_a_list_opens_with_each_form_of_its_namelist(
    request: pytest.FixtureRequest, crash: Crash, absent: Dump, wanted: list[str], form: str
) -> None:
    forms: Path = request.getfixturevalue("packed_forms" if form in THOROUGH else "forms")
    ran, found = opened(crash, *(forms / name for name in FORMS[form]), absent.vmcore)
    assert ran.status == 0, ran.text
    assert found == wanted


@pytest.mark.thorough
def test_a_guest_opens_with_its_debug_file_apart(crash: Crash, forms: Path) -> None:
    """The guest's kernel is dom0's."""
    namelist = [forms / name for name in FORMS["xz and a debug file"]]
    words: list[str | Path] = [BIN / "p2mfix", "--domain", "1", *namelist, guest_dump().vmcore]
    ran = crash.run(words, ["p2m verify", "quit"])
    assert ran.status == 0, ran.text
    assert " domain 1, linear p2m" in ran.text and "disagrees on 0\n" in ran.text


def p2mfix(crash: Crash, *words: str | Path) -> Ran:
    return crash.run([BIN / "p2mfix", *words])


@pytest.mark.parametrize("names", [FORMS["xz and a debug file"], FORMS["vmlinux and System.map"]])
def test_diagnose_names_all_files_of_the_namelist(
    crash: Crash, absent: Dump, forms: Path, names: tuple[str, ...]
) -> None:
    namelist = [forms / name for name in names]
    ran = p2mfix(crash, "diagnose", absent.vmcore, *namelist, "--json")
    assert ran.status == 0, ran.text
    told = json.loads(ran.text)
    assert told["verdict"] == Failure.ABSENT.meaning
    assert told["next"] == f"p2mfix {' '.join(map(str, namelist))} {absent.vmcore}"


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("vmlinux.symbols", "has no debug information"),
        ("vmlinux.debug", "has debug information only"),
    ],
)
def test_next_names_no_namelist_that_crash_refuses(
    crash: Crash, absent: Dump, forms: Path, name: str, refused: str
) -> None:
    ran = p2mfix(crash, "diagnose", absent.vmcore, forms / name, "--json")
    told = json.loads(ran.text)
    assert refused in " ".join(told["problems"]), told
    assert told["next"] in (None, f"p2mfix VMLINUX {absent.vmcore}")
    alone = crash.run(["crash", forms / name, absent.vmcore], ["quit"])
    assert alone.status == 1 and "data" in alone.text


def test_drgn_takes_the_kernel_and_its_debug_file(crash: Crash, absent: Dump, forms: Path) -> None:
    code = "print(prog.crashed_thread().object.comm.string_().decode(), prog['init_task'].pid)"
    for names in (("vmlinux.debug", "vmlinux.stripped"), ("vmlinux.linked",)):
        namelist = [forms / name for name in names]
        ran = p2mfix(crash, "drgn", "-q", *namelist, absent.vmcore, "-e", code)
        assert (ran.status, ran.text) == (0, "init (pid_t)0\n")


def test_a_view_takes_a_packed_kernel_without_debug_information(
    crash: Crash, absent: Dump, forms: Path
) -> None:
    ran = p2mfix(crash, "pfn", "100000", absent.vmcore, forms / "vmlinux.symbols.xz")
    assert "rebuilt list: mfn" in ran.text, ran.text


def test_a_vmlinuz_is_recognised(crash: Crash, absent: Dump, untouched: Dump) -> None:
    release = untouched.vmlinux.name.removeprefix("vmlinux-")
    header = bytearray(1 << 16)
    header[0x202:0x206] = b"HdrS"
    header[0x20E:0x210] = (0x3000).to_bytes(2, "little")
    version = f"{release} (builder) #1 SMP".encode()
    header[0x3200 : 0x3200 + len(version)] = version
    vmlinuz = crash.folder / "vmlinuz"
    vmlinuz.write_bytes(header)
    for words in ((), ("diagnose",)):
        ran = p2mfix(crash, *words, vmlinuz, absent.vmcore)
        assert ran.status == 1
        assert ran.text == (
            f"p2mfix: {vmlinuz}: is a vmlinuz, which boots the kernel and has no symbols: give the"
            f" vmlinux of {release} from the kernel's debug package\n"
        )


# Not given


def test_the_vmlinux_beside_the_dump_is_taken(
    crash: Crash, absent: Dump, untouched: Dump, wanted: list[str]
) -> None:
    beside = crash.folder / "beside"
    beside.mkdir()
    (beside / "vmcore").symlink_to(absent.vmcore)
    nothing = p2mfix(crash, beside / "vmcore")
    release = untouched.vmlinux.name.removeprefix("vmlinux-")
    assert nothing.status == 1
    assert nothing.text.startswith(f"p2mfix: no vmlinux was given, and none of Linux {release} is")

    vmlinux = beside / f"vmlinux-{release}"
    vmlinux.symlink_to(untouched.vmlinux)
    ran, found = opened(crash, beside / "vmcore")
    assert f"p2mfix: no vmlinux was given: taking {vmlinux}\n" in ran.text
    assert (ran.status, found) == (0, wanted)
    code = "print(prog['init_task'].pid)"
    by_drgn = p2mfix(crash, "drgn", beside / "vmcore", "-e", code)
    assert by_drgn.text.endswith("(pid_t)0\n") and by_drgn.status == 0, by_drgn.text
    for where in (beside / "vmcore", beside):
        report = p2mfix(crash, "diagnose", where)
        assert report.text.splitlines()[-1].endswith(f"next: p2mfix {vmlinux} {beside}/vmcore")


# Of another kernel


@pytest.fixture(scope="session")
def other_banner(once: Once, untouched: Dump) -> Callable[[bytes, bytes], Path]:
    """A function that returns the vmlinux with other words in its banner, at the same place."""

    def other(old: bytes, new: bytes) -> Path:
        def make(folder: Path) -> None:
            banner = Namelist(untouched.vmlinux).banner()
            assert old in banner and len(old) == len(new)
            content = untouched.vmlinux.read_bytes().replace(banner, banner.replace(old, new))
            (folder / "vmlinux").write_bytes(content)

        return once(f"banner-{new.hex()}", make) / "vmlinux"

    return other


def test_a_vmlinux_of_another_release_is_one_line_with_both(
    crash: Crash, absent: Dump, other_banner: Callable[[bytes, bytes], Path]
) -> None:
    vmlinux = other_banner(b"6.1.0", b"6.1.9")
    ran = p2mfix(crash, vmlinux, absent.vmcore)
    release = absent.vmlinux.name.removeprefix("vmlinux-")
    assert ran.status == 1
    assert ran.text == (
        f"p2mfix: {vmlinux}: is of Linux {release.replace('6.1.0', '6.1.9')}, and the dump is of"
        f" Linux {release}: give the vmlinux of {release}\n"
    )


@pytest.mark.thorough
def test_another_build_of_the_release_is_said_and_opens_the_dump(
    crash: Crash, absent: Dump, other_banner: Callable[[bytes, bytes], Path]
) -> None:
    vmlinux = other_banner(b"#1 SMP", b"#2 SMP")
    ran, found = opened(crash, vmlinux, absent.vmcore)
    assert ran.status == 0, ran.text
    assert f"p2mfix: {vmlinux}: is another build of the dump's release: it has '#2'" in ran.text
    assert "#1 SMP" in found[0]
