# SPDX-License-Identifier: GPL-3.0-or-later
"""Work on many dumps, each in a process of its own, so that one which is killed takes no other."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

from ..errors import P2mError
from ..progress import shown

__all__ = ["ENDED", "add_jobs", "in_processes"]

FORK = get_context("fork")  # the quickest way; this program has no other threads

ENDED = "the process that read it ended with"

Answer = TypeVar("Answer")


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--jobs`` to the parser of a command."""
    parser.add_argument(
        "--jobs",
        type=at_least_one,
        default=1,
        metavar="N",
        help="work on N dumps at once (default: 1)",
    )


def at_least_one(text: str) -> int:
    """Return a number of jobs, from the text of an option.

    :raises argparse.ArgumentTypeError: the text is not a whole number of at least 1.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: not a whole number of at least 1")
    return int(text)


def in_processes(
    tasks: Sequence[Callable[[], Answer]], jobs: int, failed: Callable[[int, str], Answer]
) -> Iterator[Answer]:
    """Yield the result of each task, in order; an error in one does not stop the others.

    :param failed: makes the result of a task that raised or was killed, of its number and why.
    """
    waiting = iter(enumerate(tasks))
    running: dict[Connection, tuple[int, BaseProcess]] = {}
    ready: dict[int, Answer] = {}
    for wanted in range(len(tasks)):
        while wanted not in ready:
            for number, task in islice(waiting, jobs - len(running)):
                receiver, sender = Pipe(duplex=False)
                process = FORK.Process(
                    target=_work, args=(sender, number, task, failed), daemon=True
                )
                process.start()
                sender.close()
                running[receiver] = number, process
            for done in wait([*running]):
                assert isinstance(done, Connection)
                number, ended = running.pop(done)
                ready[number] = _received(done, ended, number, failed)
        yield ready.pop(wanted)


def _work(
    sender: Connection,
    number: int,
    task: Callable[[], Answer],
    failed: Callable[[int, str], Answer],
) -> None:
    """Send the result of a task; this is all that a process does."""
    try:
        with shown(False):  # many processes share the terminal
            result = task()
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    except P2mError as error:
        result = failed(number, str(error))
    except Exception as error:
        result = failed(number, f"{type(error).__name__}: {error}")
    sender.send(result)


def _received(
    receiver: Connection,
    process: BaseProcess,
    number: int,
    failed: Callable[[int, str], Answer],
) -> Answer:
    """Return the result that a process sent; if it was killed, one that says so."""
    try:
        result: Answer = receiver.recv()
    except EOFError:
        process.join()
        code = process.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return failed(number, f"{ENDED} {name}")
    process.join()
    return result
