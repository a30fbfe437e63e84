"""Where real records are, for the tests that hold results against them, and the mark that skips these elsewhere."""

import os
import pathlib

import pytest

SHARED = pathlib.Path(
    os.environ.get("BAYESTWIN_DATA_DIR") or pathlib.Path(__file__).parents[2] / "shared" / "data"
).resolve()


def needs(*datasets: str) -> pytest.MarkDecorator:
    """The mark of tests that read these."""
    listed = ", ".join(datasets)
    return pytest.mark.skipif(
        not all((SHARED / dataset).is_dir() for dataset in datasets),
        reason=f"not on this machine: {listed}; set BAYESTWIN_DATA_DIR to where they are",
    )
