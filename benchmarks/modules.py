"""Count the modules of bayestwin that a calibration runs code in: `python benchmarks/modules.py models/lynx_hare`.

A module counts where a line of one of its functions runs while `bt.calibrate` does, after all imports; what runs only
as a module is imported does not count.
"""

import pathlib
import sys
import types
from typing import Any

import bayestwin as bt
from bayestwin._base.progress import Progress
from bayestwin.project.model import load_model, load_telemetry

PACKAGE = pathlib.Path(bt.__file__).parent


def modules_run(folder: pathlib.Path) -> list[str]:
    """Files of the package, relative to it, in which a calibration of this model runs a function."""
    model = load_model(folder)
    telemetry = load_telemetry(model).calibration
    calibrate = bt.calibrate
    seen: set[str] = set()
    tool = next(number for number in range(6) if sys.monitoring.get_tool(number) is None)

    def started(code: types.CodeType, offset: int) -> Any:
        if code.co_name != "<module>":
            seen.add(code.co_filename)
        return sys.monitoring.DISABLE

    sys.monitoring.use_tool_id(tool, "modules")
    sys.monitoring.register_callback(tool, sys.monitoring.events.PY_START, started)
    sys.monitoring.set_events(tool, sys.monitoring.events.PY_START)
    try:
        calibrate(model.twin, telemetry, seed=0, progress=Progress(show=False))
    finally:
        sys.monitoring.set_events(tool, 0)
        sys.monitoring.free_tool_id(tool)
    inside = [pathlib.Path(name) for name in seen if pathlib.Path(name).is_relative_to(PACKAGE)]
    return sorted(path.relative_to(PACKAGE).as_posix() for path in inside)


if __name__ == "__main__":
    found = modules_run(pathlib.Path(sys.argv[1]))
    print(*found, f"{len(found)} modules", sep="\n")
