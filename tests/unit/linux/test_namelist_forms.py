# SPDX-License-Identifier: GPL-3.0-or-later
"""A namelist in each form that people have it in, and what crash does not take."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pykdump_ext.errors import OtherKernelError, P2mError
from pykdump_ext.linux import find_namelist, packed
from pykdump_ext.linux.banners import (
    BANNER_START,
    MOST_PAGES,
    difference,
    find_banner,
    release_of,
)
from pykdump_ext.linux.find_namelist import installed_namelists
from pykdump_ext.linux.namelist import Namelist, group_namelists, is_namelist
from pykdump_ext.linux.other_kernel import other_build, refuse_others
from pykdump_ext.linux.system_map import SystemMap, is_system_map
from pykdump_ext.machine.memory import PageMemory
from pykdump_ext.machine.paging import PageTables

from ..made_up.damage import small_guest
from ..made_up.machine import PAGE
from ..made_up.vmlinux import link

BANNER = b"Linux version 6.1.0-56 (builder@example) #1 SMP"
SOURCE = f"""
const char linux_banner[] = "{BANNER.decode()}\\n";
unsigned long max_pfn = 4;
int main(void) {{ return linux_banner[0]; }}
"""


def objcopy(*words: str | Path) -> None:
    subprocess.run(["objcopy", *words], check=True)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a vmlinux, and what objcopy makes of it."""
    folder = tmp_path_factory.mktemp("kernels")
    source = SOURCE + "/* " + "\n" * 5000 + "*/\n"  # as much debug information as data
    vmlinux = link(folder, source, "--build-id", compiler=["-g3"])
    objcopy("--only-keep-debug", vmlinux, folder / "vmlinux.debug")
    objcopy("--strip-debug", vmlinux, folder / "vmlinux.symbols")
    objcopy("--strip-all", vmlinux, folder / "vmlinux.stripped")
    link_to = f"--add-gnu-debuglink={folder / 'vmlinux.debug'}"
    objcopy(link_to, folder / "vmlinux.stripped", folder / "vmlinux.links")
    for name, pack in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
        (folder / f"vmlinux.{name}").write_bytes(pack(vmlinux.read_bytes()))
    shown = subprocess.run(["nm", "-n", vmlinux], stdout=subprocess.PIPE, check=True).stdout
    (folder / "System.map").write_bytes(shown)
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ("vmlinux",), ("vmlinux.gz",), ("vmlinux.bz2",), ("vmlinux.xz",),
        ("vmlinux.symbols", "vmlinux.debug"), ("vmlinux.debug", "vmlinux.stripped"),
        ("vmlinux.links",), ("vmlinux.symbols",), ("vmlinux.gz", "System.map"),
    ],
)  # fmt: skip
def test_each_form_has_the_symbols_and_the_banner(kernels: Path, names: tuple[str, ...]) -> None:
    whole = Namelist(kernels / "vmlinux")
    found = Namelist(*(kernels / name for name in names))
    assert found.banner() == BANNER + b"\n"
    assert found.given == tuple(str(kernels / name) for name in names)
    for name in ("max_pfn", "linux_banner", "main", "no_such_symbol"):
        assert found.address(name) == whole.address(name)


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (("vmlinux",), None),
        (("vmlinux.xz",), None),
        (("vmlinux.symbols", "vmlinux.debug"), None),
        (("vmlinux", "System.map"), None),
        (("vmlinux.symbols",), "no debug information"),
        (("vmlinux.debug", "vmlinux.stripped"), "no symbols of its own"),
        (("vmlinux.links",), "no symbols of its own"),
    ],
)
def test_what_crash_refuses_is_known(
    kernels: Path, names: tuple[str, ...], refused: str | None
) -> None:
    found = Namelist(*(kernels / name for name in names)).refused
    assert found is None if refused is None else found is not None and refused in found


@pytest.mark.parametrize("name", ["kernel.xz", "kernel.bz2"])
def test_crash_unpacks_by_name(kernels: Path, tmp_path: Path, name: str) -> None:
    other = tmp_path / name
    other.write_bytes((kernels / f"vmlinux{other.suffix}").read_bytes())
    assert "begins with vmlinux" in (Namelist(other).refused or "")


@pytest.mark.parametrize("how", ["zlib", "zlib-gnu"])
def test_compressed_debug_sections_are_refused_only_with_relocations(
    kernels: Path, tmp_path: Path, how: str
) -> None:
    plain = tmp_path / "vmlinux"
    objcopy(f"--compress-debug-sections={how}", kernels / "vmlinux", plain)
    assert Namelist(plain).refused is None
    moved = link(tmp_path, SOURCE, "--emit-relocs", compiler=["-g3"])
    assert Namelist(moved).refused is None
    packed_too = tmp_path / "packed"
    objcopy(f"--compress-debug-sections={how}", moved, packed_too)
    assert "with relocations" in (Namelist(packed_too).refused or "")


def test_a_debug_file_alone_has_no_banner(kernels: Path) -> None:
    with pytest.raises(P2mError, match="has debug information only"):
        Namelist(kernels / "vmlinux.debug").banner()


def test_a_link_to_another_file_is_not_followed(kernels: Path, tmp_path: Path) -> None:
    linking = tmp_path / "vmlinux"
    linking.write_bytes((kernels / "vmlinux.links").read_bytes())
    (tmp_path / "vmlinux.debug").write_bytes((kernels / "vmlinux").read_bytes())
    with pytest.raises(P2mError, match="has no symbols"):
        Namelist(linking)


def test_the_files_of_several_kernels_are_told_apart(kernels: Path, tmp_path: Path) -> None:
    other = link(tmp_path, SOURCE.replace("6.1.0-56", "6.1.0-57"), "--build-id", compiler=["-g"])
    names = ("vmlinux.debug", "vmlinux.stripped")
    groups = group_namelists([str(kernels / names[0]), str(other), str(kernels / names[1])])
    assert sorted(release_of(one.banner()) for one in groups) == ["6.1.0-56", "6.1.0-57"]
    assert {len(one.given) for one in groups} == {1, 2}
    whole = group_namelists([str(kernels / "vmlinux.symbols"), str(kernels / "vmlinux")])
    assert [len(one.given) for one in whole] == [2]


# System.map


def test_a_system_map_has_the_addresses_of_nm(kernels: Path) -> None:
    found, whole = SystemMap(kernels / "System.map"), Namelist(kernels / "vmlinux")
    assert found.address("max_pfn") == whole.address("max_pfn")
    assert found.address("pfn") is None and found.address("no_such_symbol") is None
    assert is_namelist(kernels / "System.map")
    assert not is_system_map(b"one two three\n" * 10)


def test_a_system_map_of_another_build_leaves_the_banner_open(
    kernels: Path, tmp_path: Path
) -> None:
    text = (kernels / "System.map").read_text()
    moved = tmp_path / "System.map"
    address = Namelist(kernels / "vmlinux").address("linux_banner")
    assert address is not None
    moved.write_text(text.replace(f"{address:016x}", f"{address + 64:016x}"))
    found = Namelist(kernels / "vmlinux", moved)
    assert (found.banner(), found.address("linux_banner")) == (BANNER_START, address + 64)


# Packed files


def bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(packed, "LARGEST", 1 << 20)
    path = tmp_path / "vmlinux.gz"
    path.write_bytes(gzip.compress(b"\x7fELF" + bytes(8 << 20)))
    return path


def test_a_file_that_grows_without_end_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(P2mError, match="is larger than 1 MiB when it is unpacked"):
        Namelist(bomb(tmp_path, monkeypatch))


def test_xz_gets_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux.xz"
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]
    with lzma.open(path, "wb", filters=filters) as file:
        file.write(b"\x7fELF")
    with pytest.raises(P2mError, match="cannot be unpacked"):
        Namelist(path)


def test_what_is_no_vmlinux_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux.gz"
    path.write_bytes(gzip.compress(bytes(64)))
    with pytest.raises(P2mError, match="holds no vmlinux"):
        Namelist(path)


@pytest.mark.parametrize("name", ["vmlinux.gz", "vmlinux.bz2", "vmlinux.xz"])
@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_packed_file_is_a_sentence(
    kernels: Path, tmp_path: Path, name: str, damage: str
) -> None:
    data = bytearray((kernels / name).read_bytes())
    half = len(data) // 2
    if damage == "cut":
        data = data[:half]
    else:
        data[half : half + 64] = bytes(64)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(P2mError, match=rf"{name}: is packed by .* cannot be unpacked"):
        Namelist(tmp_path / name)


def test_what_is_unpacked_is_in_no_folder(
    kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "vmlinux.gz"
    copy.write_bytes((kernels / "vmlinux.gz").read_bytes())
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    found = Namelist(copy)
    assert found.files[0].read_bytes() == (kernels / "vmlinux").read_bytes()
    assert [*folder.iterdir()] == []
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    os.utime(copy, (0, 0))
    with pytest.raises(P2mError, match=r"cannot be unpacked .No such file"):
        Namelist(copy)


def test_zstd_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux.zst"
    path.write_bytes(b"(\xb5/\xfd" + bytes(64))
    with pytest.raises(P2mError, match="packed by zstd, which crash cannot unpack"):
        Namelist(path)


# Looked for by release


@pytest.mark.parametrize(
    ("places", "taken"),
    [
        ({"usr/lib/debug/boot/vmlinux-6.1.0-56": "vmlinux"}, 1),
        ({"usr/lib/debug/lib/modules/6.1.0-56/vmlinux": "vmlinux"}, 1),
        ({"lib/modules/6.1.0-56/build/vmlinux": "vmlinux"}, 1),
        ({"dump/vmlinux": "vmlinux", "usr/lib/debug/boot/vmlinux-6.1.0-56": "vmlinux"}, 2),
        ({"usr/lib/debug/boot/vmlinux-6.1.0-56": "vmlinux.symbols"}, 0),
        (
            {
                "usr/lib/modules/6.1.0-56/vmlinux.xz": "vmlinux.symbols",
                "usr/lib/debug/usr/lib/modules/6.1.0-56/vmlinux.debug": "vmlinux.debug",
            },
            1,
        ),
        ({"usr/lib/debug/boot/vmlinux-6.1.0-57": "vmlinux"}, 0),
    ],
)
def test_the_namelist_of_a_release_is_looked_for_where_distributions_put_it(
    kernels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    places: dict[str, str],
    taken: int,
) -> None:
    monkeypatch.setattr(find_namelist, "ROOT", tmp_path)
    for place, name in places.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        data = (kernels / name).read_bytes()
        (tmp_path / place).write_bytes(lzma.compress(data) if place.endswith("xz") else data)
    found = [*installed_namelists("6.1.0-56", [tmp_path / "dump"])]
    assert len(found) == taken
    if taken:
        assert found[0].given == tuple(str(tmp_path / place) for place in places)[: 3 - taken]
    assert not [*installed_namelists("6.1.0-99", [tmp_path / "dump"])]
    assert not [*installed_namelists("../../dump/6.1.0-56", [tmp_path / "dump"])]


# Of another kernel


def test_banners_differ_in_words() -> None:
    other = BANNER.replace(b"#1", b"#2").replace(b"builder@", b"other@")
    assert difference(BANNER, other) == (
        "(builder@example) #1", "(other@example) #2"
    )  # fmt: skip
    assert difference(BANNER + b"\n", BANNER) == ("", "")
    assert release_of(b"Linux version") == "unknown"


Raised = Callable[[], None]


def test_the_sentence_about_another_kernel() -> None:
    path = Path("vmlinux")
    refuse_others([(path, BANNER)], BANNER)
    refuse_others([(path, BANNER_START)], BANNER)
    other = BANNER.replace(b"#1", b"#2")
    with pytest.raises(OtherKernelError, match=r"another build of Linux 6.1.0-56.* '#2'.* '#1'"):
        refuse_others([(path, other)], BANNER)
    assert "it has '#2', the dump '#1'" in (other_build(path, other, BANNER) or "")
    assert other_build(path, BANNER, BANNER + b"\n") is None


def test_a_banner_without_the_builds_number_is_not_the_kernels() -> None:
    guest, _ = small_guest("linear", 1)
    weak = guest.banner.replace(b"#1", b"#")
    text = guest.symbols["linux_banner"]
    page = guest.space.maddr(text & -PAGE)
    assert page is not None
    memory = guest.machine.memory()
    content = bytearray(memory.pages[page // PAGE])
    content[0 : len(weak)] = weak
    memory = PageMemory({**memory.pages, page // PAGE: bytes(content)})
    tables = PageTables(memory, guest.root)
    assert text % PAGE > len(weak)
    assert find_banner(tables, iter(range(MOST_PAGES))) == guest.banner.rstrip(b"\n")
