"""A process that promotes without end, for tests that kill it; it says each event once that is in the log.

Usage: promoter.py FOLDER [COUNT [DIES_AT]]. With `DIES_AT` it dies at that call of the system, counted from 0, of those
that write; half of what it was about to write is written.
"""

import os
import pathlib
import sys
from collections.abc import Callable

from bayestwin.registry.log import append, read_log, stages_after


def die_at(call: int) -> None:
    """Replace the calls that write by some that count, and end the process at one of them."""
    left = iter(range(call, -1, -1))

    def counted(function: Callable) -> Callable:
        def call_or_die(*arguments: object) -> object:
            if next(left, 0) == 0:
                if function is original["write"]:
                    descriptor, data = arguments
                    function(descriptor, bytes(data)[: len(data) // 2])
                os._exit(9)
            return function(*arguments)

        return call_or_die

    original = {name: getattr(os, name) for name in ("write", "fsync", "ftruncate", "replace")}
    for name, function in original.items():
        setattr(os, name, counted(function))


def main(folder: pathlib.Path, count: int) -> None:
    """Promote one run after another; now and then production goes back instead."""
    for _ in range(count):
        log = read_log(folder)
        productions = stages_after(log.events).productions
        told = {"stage": "prod", "who": "promoter", "why": "ü", "record_sha256": "r"}
        if log.head.seq % 5 == 4 and len(productions) > 1:
            told |= {"event": "rollback", "run": productions[-2].run}
        else:
            told |= {"event": "promote", "run": f"run-{log.head.seq + 1}"}
        added = append(folder, log.head, posterior_sha256=str(told["run"]), **told)
        sys.stdout.write(f"{added.seq} {added.sha256}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    folder, *numbers = sys.argv[1:]
    if len(numbers) > 1:
        die_at(int(numbers[1]))
    main(pathlib.Path(folder), int(numbers[0]) if numbers else sys.maxsize)
