"""The repair of crash's p2m in a session: build, check, patch, and what follows from it."""

from __future__ import annotations

from crash_host import ffi, lib

from ..errors import P2mError
from ..launch.crashes import misses_pv_kernel
from ..p2m.diagnosis import Diagnosis
from ..p2m.framelist import FrameList
from ..reports import words
from . import crash
from .full import start_full_session, started_repaired
from .restart import restart
from .session import SessionNamelist, opened_domain, opened_session

__all__ = ["fix", "is_repaired", "say", "undo", "unload"]


def say(text: str) -> None:
    """Print a line of ours, unless crash is to be silent."""
    if not crash.session().silent:
        print(f"p2mfix: {text}")


def is_repaired() -> bool:
    """Return True while crash translates by the rebuilt list."""
    return bool(lib.host_p2m_is_set())


def _patch(frames: FrameList) -> None:
    """Let crash translate by ``frames`` from now on; C keeps a copy of its own.

    :raises crash.error: this is not a dump of a Xen host opened for its dom0.
    """
    pointer = ffi.from_buffer("uint64_t[]", frames.leaves)
    crash._check(lib.host_set_p2m(pointer, len(frames.leaves)), "the p2m cannot be set")


def unload() -> None:
    """Give crash its own list back, except for a guest: the dump's own list is dom0's."""
    if not opened_domain:
        lib.host_undo_p2m()


def undo() -> None:
    """Give crash its own list back, and say so.

    :raises P2mError: there is nothing to undo, or a guest's kernel is open.
    """
    if opened_domain:
        raise P2mError(
            f"the dump's own list is dom0's: domain {opened_domain} cannot be read by it"
        )
    if not is_repaired():
        raise P2mError("nothing to undo: crash reads by the dump's own list")
    lib.host_undo_p2m()
    say("crash reads by the dump's own list again; what it read before stays as it is")


def fix() -> None:
    """Repair, and carry a minimal session on to a full one, or start a full one anew.

    :raises P2mError: the dump's p2m cannot be rebuilt, or the list fails its check.
    """
    session = crash.session()
    if session.live:
        say("this is a live session: crash translates there by itself, nothing to repair")
        return
    if not session.minimal:
        _start_again()
    _repair()
    if session.minimal:
        if misses_pv_kernel(session.crash_version, SessionNamelist()):
            say(
                f"crash {session.crash_version} does not recognise this kernel as Xen PV;"
                " enabling that for it"
            )
        say("starting the full session ...")
        start_full_session()


def _repair() -> None:
    """Rebuild, check, then patch: all of it or nothing."""
    opened = opened_session()
    found = opened.diagnosis
    say(words.headline(found, opened.release))
    coverage = found.coverage
    if coverage.kept:
        say(f"kept {len(coverage.kept):,} leaves of the dump's list that the page tables have lost")
    if found.healthy and not opened_domain:
        say(f"the dump's list covers {words.coverage(found)}: nothing to repair, nothing changed")
        return
    if coverage.unreadable:
        count, first = len(coverage.unreadable), coverage.unreadable[0]
        say(f"{count:,} leaves are not in the dump, the first: {first}")
    _ensure_checked(found)
    _patch(found.rebuilt)
    _report(found)


def _report(found: Diagnosis) -> None:
    """Say what the repair was."""
    coverage = found.coverage
    if opened_domain:
        say(
            f"the p2m of its {coverage.memory:,} pages is rebuilt from page tables;"
            f" {found.seconds:.3f} s"
        )
        return
    whole = "" if coverage.kept or coverage.unreadable else " (100%)"
    say(
        f"the dump's list covers {words.coverage(found)};"
        f" rebuilt from page tables: {coverage.memory:,}{whole}"
    )
    if coverage.leaves_lost:
        say(
            f"{coverage.leaves_lost:,} of {coverage.leaves:,} leaves were missing,"
            f" pfn {words.lost(coverage.lost)}; {found.seconds:.3f} s"
        )
    else:
        say(f"crash could not read by it: {found.published.problems[0]}")


def _ensure_checked(found: Diagnosis) -> None:
    """Let only a list pass that the direct map confirms.

    :raises P2mError: it does not.
    """
    if not found.check.passed:
        raise P2mError(words.failed_check(found, "nothing is changed"))


def _start_again() -> None:
    """In a full session that began with a broken list: start crash anew with the rebuilt one.

    crash keeps what it has read at its start, and some of those reads have failed.
    """
    found = opened_session().diagnosis
    if found.healthy or started_repaired():
        return
    _ensure_checked(found)
    say("crash was started with a broken list, and keeps what it has read by it")
    say("starting it anew in place, with its extensions and history, without its settings ...")
    try:
        restart(found.rebuilt)
    except P2mError as problem:
        say(f"{problem}: tasks, modules and the like stay as crash has read them")
        say("to have them right, open the dump anew: p2mfix VMLINUX VMCORE")
