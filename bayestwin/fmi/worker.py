"""The process in which one FMU lives: it is told what to solve through a pipe, and answers with outputs.

Run as a script by `process.py`, with nothing of this package imported, so that it starts in half a second.
"""

import io
import json
import os
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from fmpy import read_model_description
from fmpy.simulation import instantiate_fmu

SOLVED, FAILED = b"s", b"f"

WATCH = 1.0
"""Seconds between two looks at whether the process that asks is still there."""


class StepPlan:
    """Communication points, inputs at them, and which of them are saved.

    Attributes:
        points: Times in seconds; shape (k + 1,).
        inputs: At the first point, and in the step that ends at each of the others; shape (k + 1, q).
        save: Positions among the points; shape (n,).
    """

    def __init__(self, content: bytes) -> None:
        """Read what `process.py` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            points, inputs, save = (arrays[name] for name in ("points", "inputs", "save"))
        self.points, self.inputs = points.tolist(), inputs.tolist()
        self.size = len(save)
        self.rows: dict[int, list[int]] = {}
        for row, place in enumerate(save.tolist()):
            self.rows.setdefault(place, []).append(row)
        self.last = max(self.rows)


class Instance:
    """An instance of the FMU, which is reset after each solve."""

    def __init__(self, told: dict[str, Any]) -> None:
        """Load it; nothing is instantiated yet."""
        self.told, self.messages = told, []
        self.description = read_model_description(told["folder"], validate=False)
        self.second = self.description.fmiVersion == "2.0"
        self.slave: Any = None

    def solve(self, plan: StepPlan, values: list[float], *, fresh: bool) -> np.ndarray:
        """Outputs at the saved times, shape (n, s); NaN from where on a step failed.

        Raises:
            Exception: If the FMU cannot be initialised with these values.
        """
        self.messages.clear()
        if fresh:
            self.close()
        slave = self.slave or self._instantiate()
        self.slave = None  # until it has been reset
        found = np.full((plan.size, len(self.told["outputs"])), np.nan)
        try:
            self._begin(slave, plan, values)
            self._advance(slave, plan, found)
        except Exception:
            slave.freeInstance()
            raise
        try:
            slave.terminate()
            slave.reset()
            self.slave = slave
        except Exception:  # then the next solve has an instance of its own
            slave.freeInstance()
        return found

    def close(self) -> None:
        """Free the instance, if there is one."""
        if self.slave is not None:
            self.slave.freeInstance()
            self.slave = None

    def _instantiate(self) -> Any:
        def log(*args: Any) -> None:
            text = args[-1] if args else b""
            self.messages.append(text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text))

        return instantiate_fmu(self.told["folder"], self.description, "CoSimulation", logger=log)

    def _begin(self, slave: Any, plan: StepPlan, values: list[float]) -> None:
        begin, end = plan.points[0], plan.points[plan.last]
        ends = {"startTime": begin, "stopTime": end if end > begin else None, "tolerance": self.told["tolerance"]}
        if self.second:
            slave.setupExperiment(**ends)
        self._set(slave, self.told["parameters"], values)
        slave.enterInitializationMode(**({} if self.second else ends))
        self._set(slave, self.told["inputs"], plan.inputs[0])
        slave.exitInitializationMode()

    def _advance(self, slave: Any, plan: StepPlan, found: np.ndarray) -> None:
        for number in range(plan.last + 1):
            for row in plan.rows.get(number, ()):
                found[row] = self._get(slave)
            if number == plan.last:
                return
            self._set(slave, self.told["inputs"], plan.inputs[number + 1])
            now, step = plan.points[number], plan.points[number + 1] - plan.points[number]
            try:
                told = slave.doStep(currentCommunicationPoint=now, communicationStepSize=step)
            except Exception as reason:
                self.messages.append(f"{reason} at t = {now:g} s")
                return
            if told is not None and (told[1] or told[2]):  # it asks to end, or came back early
                self.messages.append(f"it stopped by itself at t = {told[3]:g} s")
                return

    def _set(self, slave: Any, references: list[int], values: list[float]) -> None:
        if references:
            (slave.setReal if self.second else slave.setFloat64)(references, values)

    def _get(self, slave: Any) -> list[float]:
        return list((slave.getReal if self.second else slave.getFloat64)(self.told["outputs"]))


def _end_with(parent: int) -> None:
    """End this process when the one that asks is gone, also while the FMU does not return."""
    while os.getppid() == parent:
        time.sleep(WATCH)
    os._exit(1)


def main() -> None:
    """Answer until the pipe is closed."""
    pipe = Connection(int(sys.argv[1]))
    threading.Thread(target=_end_with, args=(int(sys.argv[2]),), daemon=True).start()
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # what an FMU prints is nobody's output
        os.dup2(quiet, stream)
    instance: Instance | None = None
    plan: StepPlan | None = None
    while True:
        try:
            kind, content = (message := pipe.recv_bytes())[:1], message[1:]
        except EOFError:
            break
        try:
            if kind == b"i":
                instance = Instance(json.loads(content))
                pipe.send_bytes(SOLVED)
            elif kind == b"p":
                plan = StepPlan(content)
                pipe.send_bytes(SOLVED)
            else:
                assert instance is not None
                assert plan is not None
                found = instance.solve(plan, np.frombuffer(content).tolist(), fresh=kind == b"n")
                words = "; ".join(instance.messages[-3:]).encode()
                pipe.send_bytes(SOLVED + len(words).to_bytes(4, "big") + words + found.tobytes())
        except Exception as reason:
            words = "; ".join([f"{reason}", *(instance.messages[-3:] if instance else [])])
            pipe.send_bytes(FAILED + words.encode("utf-8", "replace"))
    if instance is not None:
        instance.close()


if __name__ == "__main__":
    main()
