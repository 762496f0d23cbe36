# SPDX-License-Identifier: GPL-3.0-or-later
"""The repair of a session: rebuild the list, check it, give it to crash; and the undo."""

from __future__ import annotations

from crash_host import ffi, lib

from ..errors import P2mError, printable
from ..launch.crash_versions import misses_pv_kernel
from ..p2m.diagnosis import Diagnosis
from ..p2m.framelist import FrameList
from ..reports import words
from . import crash
from .fast import fast_is_on, slow_down, speed_up, wanted
from .full_session import start_full_session, started_repaired
from .guarded import check
from .restart import restart
from .session import SessionNamelist, opened_domain, opened_session
from .tasks import find_tasks

__all__ = ["fix", "is_repaired", "say", "undo", "unload"]


def say(text: str) -> None:
    """Print a line of p2mfix's, unless crash is silent (``crash -s``)."""
    if not crash.session().silent:
        print(f"p2mfix: {printable(text)}")


def is_repaired() -> bool:
    """Return True while crash reads by the rebuilt list."""
    return bool(lib.host_p2m_is_set())


def _patch(frames: FrameList) -> None:
    """Make crash read by ``frames`` from now on; C keeps its own copy of the list.

    :raises crash.error: this session is not one on a dump of a Xen host.
    """
    pointer = ffi.from_buffer("uint64_t[]", frames.leaves)
    check(lib.host_set_p2m(pointer, len(frames.leaves)), "cannot give crash the rebuilt list")


def unload() -> None:
    """Give crash its own reads and the dump's list back, and print what it did not have.

    Where a guest's kernel is open, its list stays: the dump's is dom0's.
    """
    fast, repaired = fast_is_on(), is_repaired() and not opened_domain
    slow_down()
    if fast:
        say("crash reads and translates by its own functions again")
    if repaired:
        check(lib.host_undo_p2m(), "cannot give crash the dump's list back")
        say("crash reads by the dump's list again; it keeps what it has read by the rebuilt one")


def undo() -> None:
    """Do the same, unless there is nothing to undo.

    :raises P2mError: crash has both already, or a guest's kernel is open.
    """
    if opened_domain:
        raise P2mError(
            f"nothing to undo: the dump's list is dom0's, and cannot serve domain {opened_domain}"
        )
    if not fast_is_on() and not is_repaired():
        raise P2mError("nothing to undo: crash reads by the dump's list")
    unload()


def fix() -> None:
    """Repair this session; carry a minimal one on to a full one, or start a full one anew.

    A full session starts anew only if it began with a broken list.

    :raises P2mError: the list cannot be rebuilt, or it fails its check.
    """
    session = crash.session()
    if session.live:
        say("this is a live session, which needs no list: nothing to repair")
        return
    opened_session().forget_failures()
    if not session.minimal:
        _start_again()
    _repair()
    _speed_up()
    if session.minimal:
        if misses_pv_kernel(session.crash_version, SessionNamelist()):
            say(
                f"crash {session.crash_version} does not recognise this kernel as Xen PV;"
                " enabling that for it"
            )
        say("starting the full session ...")
        start_full_session()
    _find_tasks()


def _repair() -> None:
    """Rebuild the list, check it, and give it to crash; an error leaves crash as it was.

    :raises P2mError: the list cannot be rebuilt, or it fails its check.
    """
    opened = opened_session()
    found = opened.diagnosis
    say(words.headline(found, opened.release))
    coverage = found.coverage
    if coverage.kept:
        kept = len(coverage.kept)
        say(f"kept from the dump's list: {kept:,} leaves that the page tables have lost")
    if found.healthy and not opened_domain:
        say(f"the dump's list covers {words.coverage(found)}: nothing to repair")
        return
    if coverage.unreadable:
        count, first = len(coverage.unreadable), coverage.unreadable[0]
        say(f"leaves that are not in the dump: {count:,}, the first: {first}")
    _ensure_checked(found)
    _patch(found.rebuilt)
    _report(found)


def _speed_up() -> None:
    """Make crash's reads and walks fast, unless the user wants them plain."""
    if not wanted():
        return
    try:
        speed_up()
    except (P2mError, crash.error) as problem:
        say(f"reads stay as crash makes them: {problem}")


def _report(found: Diagnosis) -> None:
    """Print what the repair did."""
    coverage = found.coverage
    if opened_domain:
        say(
            f"its p2m is rebuilt from page tables: {coverage.memory:,} pages; {found.seconds:.3f} s"
        )
        return
    whole = "" if coverage.kept or coverage.unreadable else " (100%)"
    say(
        f"the dump's list covers {words.coverage(found)};"
        f" rebuilt from page tables: {coverage.memory:,}{whole}"
    )
    if coverage.leaves_lost:
        say(
            f"{coverage.leaves_lost:,} of {coverage.leaves:,} leaves were lost,"
            f" pfn {words.lost(coverage.lost)}; {found.seconds:.3f} s"
        )
    else:
        say(f"crash could not read the dump's list: {found.published.problems[0]}")


def _find_tasks() -> None:
    """Make crash find all tasks, and print how many if that needed help or did not succeed."""
    found = find_tasks()
    if found is None:
        return
    version = crash.session().crash_version
    if found.helped:
        now = "" if found.lacks_some else f"; now it has all {found.found:,}"
        say(
            f"crash {version} alone reads too little of each struct pid of this kernel,"
            f" and misses most tasks{now}"
        )
    if found.lacks_some:  # an answer that is not whole is no news that -s leaves out
        print(
            f"p2mfix: WARNING: crash {version} finds {found.found:,} of the {found.counted:,} tasks"
            " that the kernel counts: ps, foreach and bt lack the others; try a newer crash, or"
            " p2mfix drgn VMLINUX VMCORE"
        )


def _ensure_checked(found: Diagnosis) -> None:
    """Raise an error unless the rebuilt list passes its check.

    :raises P2mError: the direct map disagrees with the list, or has none of its pages.
    """
    if not found.check.passed:
        raise P2mError(words.failed_check(found, "nothing is changed"))


def _start_again() -> None:
    """Start crash anew with the rebuilt list, if this full session began with a broken one.

    crash keeps what it read at its start, and reads by a broken list have failed.

    :raises P2mError: the list cannot be rebuilt, or it fails its check.
    """
    found = opened_session().diagnosis
    if found.healthy or started_repaired():
        return
    _ensure_checked(found)
    say("crash started with a broken list, and keeps what it has read by it")
    say("starting it anew in place, with its extensions and history, without its settings ...")
    try:
        restart(found.rebuilt)
    except P2mError as problem:
        say(f"{problem}: tasks, modules and other data stay as crash has read them")
        say("for the right data open the dump anew: p2mfix VMLINUX VMCORE")
