"""The tank's model folder, and one run of it that many tests look at."""

import pathlib

import pytest
from tank_model import SECRET, MakeModel, Ran, run_command, write_model


@pytest.fixture
def make_model(tmp_path: pathlib.Path) -> MakeModel:
    """Writes the tank's model folder, or a changed one: `make_model(twin=…, job=…)`."""

    def make(name: str = "tank", **parts: str) -> pathlib.Path:
        return write_model(tmp_path / "models" / name, **parts)

    return make


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """`bayestwin calibrate` on the tank: calibrated once, with a secret in the environment; change nothing in it."""
    root = tmp_path_factory.mktemp("ran")
    model, results = write_model(root / "models" / "tank"), root / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPLOY_TOKEN", SECRET)
        patch.setenv("JAX_PLATFORMS_PASSWORD", SECRET)
        code, out, err = run_command("calibrate", model, "--results", results)
    return Ran(code, out, err, model, results)
