# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of time and memory hold, one inside the other, and leave nothing behind."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from pykdump_ext.errors import P2mError
from pykdump_ext.limits import (
    Once,
    TimeUpError,
    TooLongError,
    held,
    late,
    limited_memory,
    step,
    within,
)

LONG = 20  # seconds: where no alarm stops the work, a test ends by itself, and fails


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    def others(number: int, frame: object) -> None:
        """Do what somebody else wants, whose alarm is far away."""

    known = signal.signal(signal.SIGALRM, others)
    timer = signal.setitimer(signal.ITIMER_REAL, 1000, 7)
    yield
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    handler = signal.signal(signal.SIGALRM, known)
    signal.setitimer(signal.ITIMER_REAL, *timer)
    assert 900 < left < 1000 and interval == 7
    assert handler is others
    assert held() is None


def work(seconds: float = LONG) -> str:
    """Work, in many small steps."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.001)
    return "done"


def test_work_is_stopped_when_its_time_is_up_and_only_then() -> None:
    assert within(LONG, lambda: work(0.01)) == "done"
    with pytest.raises(TooLongError, match=r"^it took over 0\.05 seconds, and was stopped$"):
        within(0.05, work)
    assert within(None, held) is None


def test_who_catches_the_alarm_hears_it_again() -> None:
    caught = []

    def stubborn() -> str:
        try:
            return work()
        except BaseException as error:  # what a library may do
            caught.append(type(error))
            return work()

    with pytest.raises(TooLongError):
        within(0.05, stubborn)
    assert caught == [TimeUpError]


def test_a_limit_inside_another_ends_alone() -> None:
    def outer() -> list[str]:
        found = []
        for _ in range(3):
            try:
                within(0.05, work)
            except TooLongError as error:
                found.append(str(error))
        return [*found, work(0.01)]

    assert within(LONG, outer) == ["it took over 0.05 seconds, and was stopped"] * 3 + ["done"]


def test_the_outer_limit_holds_inside_the_inner_one() -> None:
    went_on = []

    def outer() -> None:
        try:
            within(LONG, work)
        except TooLongError:  # of the inner one, which is not up
            went_on.append(1)

    with pytest.raises(TooLongError, match=r"over 0\.05 seconds"):
        within(0.05, outer)
    assert not went_on


def test_what_is_apart_takes_no_time_of_the_outer_limit() -> None:
    assert within(0.2, lambda: within(LONG, lambda: work(0.5), apart=True)) == "done"
    with pytest.raises(TooLongError, match=r"over 0\.2 seconds"):
        within(0.2, lambda: (within(LONG, lambda: work(0.3), apart=True), work()))


def test_a_step_has_a_share_of_the_time() -> None:
    assert step(held) is None  # outside of a limit there is none
    with pytest.raises(TooLongError, match=r"over 0\.1 seconds"):
        within(0.5, lambda: step(work))
    assert not late()
    assert within(LONG, lambda: (late(), held())) == (False, LONG)
    assert within(0.5, lambda: (work(0.3), late())) == ("done", True)


class Sought(Once):
    """Something that is found, or not, and how often it was sought."""

    times = 0

    def answer(self, seconds: float) -> str:
        def find() -> str:
            self.times += 1
            return work(seconds)

        return self._once("answer", find)


def test_what_took_too_long_is_not_sought_again() -> None:
    sought = Sought()
    with pytest.raises(TooLongError):
        within(0.05, lambda: sought.answer(LONG))
    with pytest.raises(P2mError, match="it took over"):
        sought.answer(0)
    assert sought.times == 1
    sought.forget_failures()
    assert sought.answer(0) == "done"


def test_memory_is_limited_for_as_long_as_that_is_asked() -> None:
    code = """if True:
        import resource
        from pykdump_ext.errors import P2mError
        from pykdump_ext.limits import limited_memory
        before = resource.getrlimit(resource.RLIMIT_DATA)
        try:
            with limited_memory(300 << 20):
                bytearray(400 << 20)
        except P2mError as error:
            print(error)
        bytearray(400 << 20)
        print(before == resource.getrlimit(resource.RLIMIT_DATA))
    """
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode().splitlines() == [
        "this takes more than 300 MiB of memory: the dump may be damaged",
        "True",
    ]
    with limited_memory():
        soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    assert 0 < soft <= 8 << 30
