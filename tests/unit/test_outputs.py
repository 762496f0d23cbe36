# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pykdump_ext import outputs
from pykdump_ext.errors import P2mError, printable
from pykdump_ext.outputs import new_file, write_file

LARGE = bytes(1 << 20)


pytestmark = pytest.mark.usefixtures("way")


@pytest.fixture(params=[0o022, 0o077, 0o002, 0o000], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    mask: int = request.param
    before = os.umask(mask)
    yield mask
    assert os.umask(before) == mask  # it is as it was


@contextmanager
def small_files() -> Iterator[None]:
    """Let no file become larger than 1000 bytes; also not the one that pytest prints to."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# A new file


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path, way: bool) -> None:
    target = tmp_path / "out"
    with new_file(target) as (fd, unfinished):
        os.write(fd, b"half")
        assert not target.exists()
        assert names(tmp_path) == ([] if way else [unfinished.name])
        assert unfinished.read_bytes() == b"half"
        os.write(fd, b" and half")
    assert target.read_bytes() == b"half and half"
    assert names(tmp_path) == ["out"]


def test_what_was_there_stays_until_the_new_file_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with new_file(target) as (fd, _):
        os.write(fd, b"new")
        assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["out"]
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left"), P2mError("no"), KeyboardInterrupt(), SystemExit(1)],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("old", [None, b"old"])
def test_an_error_leaves_nothing_and_changes_nothing(
    tmp_path: Path, error: BaseException, old: bytes | None
) -> None:
    target = tmp_path / "out"
    if old is not None:
        target.write_bytes(old)
        target.chmod(0o640)
    files = open_files()
    with pytest.raises(type(error)) as caught, new_file(target) as (fd, _):
        os.write(fd, b"half")
        raise error
    assert caught.value is error
    assert open_files() == files
    if old is None:
        assert names(tmp_path) == []
    else:
        assert (names(tmp_path), target.read_bytes(), mode(target)) == (["out"], old, 0o640)


def test_a_file_that_cannot_get_its_name_is_not_left(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(P2mError, match="out: is not a file"), new_file(target) as (fd, _):
        os.write(fd, b"content")
        target.mkdir()
    assert names(tmp_path) == ["out"]
    assert names(target) == []


def test_no_folder_for_it_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(P2mError, match="/none: no such folder"), new_file(tmp_path / "none/out"):
        raise AssertionError("the block was entered")
    assert names(tmp_path) == []


def test_a_new_file_may_be_read_as_the_umask_has_it(tmp_path: Path, umask: int) -> None:
    with new_file(tmp_path / "out") as (_, unfinished):
        assert mode(unfinished) == 0o600  # nobody else reads it before it is whole
    assert mode(tmp_path / "out") == 0o666 & ~umask


@pytest.mark.parametrize("wanted", [0o400, 0o440, 0o600, 0o644, 0o000])
def test_a_mode_that_is_given_is_the_files_whatever_the_umask(
    tmp_path: Path, umask: int, wanted: int
) -> None:
    with new_file(tmp_path / "out", wanted):
        pass
    assert mode(tmp_path / "out") == wanted


def test_a_file_system_without_hard_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(path: Path, name: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(outputs, "_unnamed", lambda folder: None)
    monkeypatch.setattr(outputs, "_link", link)
    with new_file(tmp_path / "out") as (fd, _):
        os.write(fd, b"content")
    assert (names(tmp_path), (tmp_path / "out").read_bytes()) == (["out"], b"content")


def test_two_that_write_the_same_file_do_not_mix(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with new_file(target) as (first, _), new_file(target) as (second, _):
        os.write(first, b"first")
        os.write(second, b"second")
    assert target.read_bytes() == b"first"  # the one that ends last
    assert names(tmp_path) == ["out"]


# Content to a path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=10000), st.sampled_from(["out", ".out", "a b", "ü", "x" * 200]))
def test_the_content_is_written_whole(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).unlink(missing_ok=True)  # what an example wrote may begin as a dump does
    write_file(str(tmp_path / name), content)
    assert (tmp_path / name).read_bytes() == content
    assert not {*names(tmp_path)} - {"out", ".out", "a b", "ü", "x" * 200}


def test_it_has_the_mode_of_a_new_file(tmp_path: Path, umask: int) -> None:
    write_file(str(tmp_path / "out"), b"content")
    assert mode(tmp_path / "out") == 0o666 & ~umask


def test_a_relative_path_is_below_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_file("out", b"content")
    assert (tmp_path / "out").read_bytes() == b"content"


@pytest.mark.parametrize("there", [True, False], ids=["there", "not yet there"])
def test_a_symlink_stays_and_what_it_leads_to_is_written(tmp_path: Path, there: bool) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "out", tmp_path / "link"
    if there:
        target.write_bytes(b"old")
    link.symlink_to("real/out")
    write_file(str(link), b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert names(target.parent) == ["out"]


def test_a_hard_link_of_something_else_does_not_change_it(tmp_path: Path) -> None:
    other, target = tmp_path / "other", tmp_path / "out"
    other.write_bytes(b"other")
    os.link(other, target)
    write_file(str(target), b"new")
    assert (other.read_bytes(), target.read_bytes()) == (b"other", b"new")


def test_a_disk_that_is_full_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    for path in (target, tmp_path / "new"):
        with small_files(), pytest.raises(P2mError, match=f"^{path}: File too large$"):
            write_file(str(path), LARGE)
    assert (names(tmp_path), target.read_bytes()) == (["out"], b"old")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("file/out", "Not a directory"),
        (".", "Is a directory"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "file").write_bytes(b"file")
    path = f"{tmp_path}/{name}"
    with pytest.raises(P2mError) as caught:
        write_file(path, b"content")
    assert str(caught.value) == f"{path}: {says}"
    assert (names(tmp_path), (tmp_path / "file").read_bytes()) == (["file"], b"file")


# Devices and pipes


def test_a_device_takes_what_is_written_and_stays(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    for path in ("/dev/null", str(link)):
        write_file(path, LARGE)
    assert Path("/dev/null").is_char_device()
    assert names(tmp_path) == ["null"]


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_device_that_takes_no_more_is_a_sentence(size: int) -> None:
    with pytest.raises(P2mError, match=r"^/dev/full: No space left on device$"):
        write_file("/dev/full", bytes(size))
    assert Path("/dev/full").is_char_device()


def test_a_pipe_gets_all_of_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["wc", "-c", pipe], stdout=subprocess.PIPE)
    write_file(str(pipe), LARGE, [__file__])
    assert reader.communicate()[0].split()[0] == b"1048576"
    assert pipe.is_fifo()
    assert names(tmp_path) == ["pipe"]


SAYS = """
from pykdump_ext.outputs import write_file
print("before")
write_file({!r}, b"said\\n")
print("after")
"""


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_may_be_named(tmp_path: Path, name: str) -> None:
    words = [sys.executable, "-c", SAYS.format(name)]
    wanted = b"before\nsaid\nafter\n"
    assert subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout == wanted
    ours, theirs = socket.socketpair()
    subprocess.run(words, stdout=theirs.fileno(), check=True)
    assert ours.recv(100, socket.MSG_WAITALL | socket.MSG_DONTWAIT) == wanted
    with (tmp_path / "out").open("wb") as file:
        file.write(b"first\n")
        file.flush()
        subprocess.run(words, stdout=file, check=True)
    assert (tmp_path / "out").read_bytes() == b"first\n" + wanted
    assert names(tmp_path) == ["out"]


def test_the_file_that_is_standard_output_may_be_named_too(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("ab") as file:
        words = [sys.executable, "-c", SAYS.format(str(out))]
        subprocess.run(words, stdout=file, check=True)
    assert out.read_bytes() == b"before\nsaid\nafter\n"


def test_a_path_that_leads_nowhere_is_a_sentence(tmp_path: Path) -> None:
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    for path in (str(circle), "nul\0"):
        with pytest.raises(P2mError, match=re.escape(printable(path))):
            write_file(path, b"said")
    assert names(tmp_path) == ["circle"]
