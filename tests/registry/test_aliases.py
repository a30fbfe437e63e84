"""Aliases in MLflow say what the log says is in which stage, after promotions and rollbacks alike."""

import importlib.util
import pathlib

import pytest
from fabricated import write_run
from tank_model import parse_strictly, run_command

from bayestwin.errors import CorruptArtifact, InvalidInput
from bayestwin.project.run import sha256_of
from bayestwin.registry.aliases import mirror
from bayestwin.registry.log import append

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="MLflow is an optional extra"),
    # of MLflow and what it brings, whose warnings are not ours to mend
    pytest.mark.filterwarnings("ignore::Warning"),
]


def bring(results: pathlib.Path, run: str, stage: str, event: str = "promote") -> None:
    folder = results / "tank"
    told = {"posterior_sha256": sha256_of(folder / run / "posterior.nc"), "record_sha256": "r"}
    append(folder, None, event=event, run=run, stage=stage, who="Ann", why="better", **told)


def pointed(results: pathlib.Path) -> dict[str, str]:
    """The run behind each alias, as MLflow has it."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{results / 'mlflow.db'}")
    (model,) = client.search_registered_models()
    assert model.name == "tank"
    runs = {}
    for alias, version in model.aliases.items():
        found = client.get_model_version("tank", version)
        assert client.get_run(found.run_id).info.run_name == found.tags["bayestwin.run"]
        assert {one.path for one in client.list_artifacts(found.run_id)} >= {"posterior.nc", "run.json"}
        runs[alias] = found.tags["bayestwin.run"]
    return runs


@pytest.fixture
def results(tmp_path: pathlib.Path) -> pathlib.Path:
    for name in ("A", "B"):
        write_run(tmp_path / "results", name)
    return tmp_path / "results"


def test_aliases_follow_the_log(results: pathlib.Path) -> None:
    bring(results, "A", "staging")
    mirror("tank", results)
    assert pointed(results) == {"staging": "A"}
    bring(results, "A", "prod")
    bring(results, "B", "staging")
    first = mirror("tank", results)
    assert [(one.alias, one.run) for one in first] == [("staging", "B"), ("prod", "A")]
    assert pointed(results) == {"staging": "B", "prod": "A"}
    assert mirror("tank", results) == first
    bring(results, "B", "prod")
    code, out, err = run_command("track", "B", "--aliases", "--results", results, "--json")
    assert (code, err) == (0, "")
    assert parse_strictly(out)["aliases"]["tank"]["prod"]["run"] == "B"
    assert pointed(results) == {"prod": "B"}
    bring(results, "A", "prod", "rollback")
    assert "tank@prod is version" in run_command("track", "A", "--aliases", "--results", results)[1]
    assert pointed(results) == {"prod": "A"}


def test_what_is_not_what_was_promoted_gets_no_alias(results: pathlib.Path) -> None:
    bring(results, "A", "prod")
    mirror("tank", results)
    bring(results, "B", "prod")
    (results / "tank" / "B" / "posterior.nc").write_bytes((results / "tank" / "A" / "posterior.nc").read_bytes())
    with pytest.raises(CorruptArtifact, match="not the posterior that was promoted"):
        mirror("tank", results)
    assert pointed(results) == {"prod": "A"}
    with pytest.raises(InvalidInput):
        mirror("room", results)
