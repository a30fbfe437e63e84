"""A calibration that survives its process: what a method needs to go on, in one file beside the draws made so far.

The file opens with `bayestwin.load` meanwhile: `posterior` and `sample_stats` are the draws, `checkpoint` the rest.
"""

import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from bayestwin.density.density import Density
from bayestwin.errors import InvalidArtifact
from bayestwin.inference.method import Draws
from bayestwin.results.schema import Axes, sites_dataset, stats_dataset
from bayestwin.results.store import load, save


class FileCheckpoint:
    """Keeps the state of a method in one file, written whole or not at all."""

    def __init__(
        self,
        path: pathlib.Path,
        density: Density,
        identity: Mapping[str, Any],
        axes: Axes | None = None,
        *,
        every: float = 5.0,
    ) -> None:
        """Prepare; nothing is read or written yet.

        Args:
            path: The file.
            density: Gives draws their names.
            identity: What the draws depend on, as plain values; another state is not gone on from.
            axes: Those of the result, which draws of several experiments need.
            every: Seconds from one writing to the next.
        """
        self.path, self.density, self.coords = path, density, axes.coords if axes else {}
        self.identity = json.loads(json.dumps(identity))
        self.wait, self.written = every, time.monotonic()

    def load(self) -> Mapping[str, np.ndarray] | None:
        """What was left last; None where there is no file.

        Raises:
            InvalidArtifact: If it belongs to another calibration, or is damaged.
        """
        if not self.path.is_file():
            return None
        tree = load(self.path)
        found = tree.attrs.get("checkpoint_of")
        if found != self.identity or "checkpoint" not in tree.children:
            found = found if isinstance(found, dict) else {}
            other = [name for name, value in self.identity.items() if found.get(name) != value]
            raise InvalidArtifact(
                f"The checkpoint `{self.path}` belongs to another calibration.",
                expected=", ".join(f"{name} {self.identity[name]}" for name in other) or "a checkpoint",
                received=", ".join(f"{name} {found.get(name)}" for name in other) or "a result",
                advice="Go on with what it was made with, or remove it to begin anew.",
            )
        return {str(name): array.values for name, array in tree["checkpoint"].data_vars.items()}

    def due(self) -> bool:
        """Whether enough time has passed since the last writing."""
        return time.monotonic() - self.written >= self.wait

    def leave(self, state: Mapping[str, np.ndarray], draws: Draws | None) -> None:
        """Write the state of the method, and the draws made so far."""
        arrays = {name: np.asarray(array) for name, array in state.items()}
        data = {
            name: (tuple(f"{name}_{axis}" for axis in range(array.ndim)), array)
            for name, array in arrays.items()
            if array.size
        }
        groups = {"checkpoint": xr.Dataset(data)}
        if draws is not None:
            chains, num, dim = draws.z.shape
            density = self.density.centred(draws.centring)
            values = density.constrain_all(draws.z.reshape(-1, dim))
            values |= density.derive_all(values)
            shown = {name: value.reshape(chains, num, *value.shape[1:]) for name, value in values.items()}
            groups = {
                "posterior": sites_dataset(self.density.twin, shown, self.coords),
                "sample_stats": stats_dataset(draws.stats),
                **groups,
            }
        tree = xr.DataTree.from_dict(groups)
        tree.attrs = {"checkpoint_of": self.identity, "twin": self.density.twin.name, "interrupted": True}
        begun = time.monotonic()
        save(tree, self.path)
        self.written = time.monotonic()
        self.wait = max(self.wait, 10.0 * (self.written - begun))  # however much there is, little time goes into it
