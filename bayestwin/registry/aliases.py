"""What is in which stage, as aliases of a registered model of MLflow: they follow the log, and never lead."""

import os
import pathlib
from typing import NamedTuple

from bayestwin.errors import StorageFailure
from bayestwin.project.track import RUN, default_store, opened_store, track
from bayestwin.registry.log import stages_after
from bayestwin.registry.production import check_unchanged, runs_of
from bayestwin.registry.shared import current_log


class Aliased(NamedTuple):
    """What an alias points to.

    Attributes:
        alias: `"staging"` or `"prod"`.
        run: The run in that stage; empty where nothing is, and the alias is gone.
        version: What MLflow calls the version of it; empty likewise.
    """

    alias: str
    run: str
    version: str


def mirror(
    model: str | os.PathLike[str], results: str | os.PathLike[str] = "results", store: str | None = None
) -> tuple[Aliased, ...]:
    """Have the aliases `staging` and `prod` of a registered model point to what is in these stages.

    The registered model has the name of the model, and a version for each run that was in a stage, which is logged
    where it is not there. What is so already is left alone.

    Args:
        model: Its name, or its folder.
        results: Where runs are filed.
        store: Address of a tracking store, as MLflow takes it; by default an SQLite file in `results`.

    Raises:
        InvalidInput: If there are no runs of such a model.
        InvalidSetting: If MLflow is not installed.
        CorruptArtifact: If the log, or what is in a stage, is not what it was.
        StorageFailure: If the store does not take it.
    """
    runs = runs_of(model, results)
    now = stages_after(current_log(runs).events)
    client, failure = opened_store(store or default_store(pathlib.Path(results)))
    found = []
    try:
        known = {one.name: one.aliases for one in client.search_registered_models(f"name = '{runs.name}'")}
        if not known:
            client.create_registered_model(runs.name)
        aliases = known.get(runs.name, {})
        for alias, held in (("staging", now.staging), ("prod", now.production)):
            if held is None:
                if alias in aliases:
                    client.delete_registered_model_alias(runs.name, alias)
                found.append(Aliased(alias, "", ""))
                continue
            check_unchanged(runs, held)
            logged = track(pathlib.Path(results), runs / held.run, store).id
            versions = client.search_model_versions(f"name = '{runs.name}'")
            version = next((one.version for one in versions if one.run_id == logged), None)
            if version is None:
                place = client.get_run(logged).info.artifact_uri
                version = client.create_model_version(runs.name, place, logged, tags={RUN: held.run}).version
            if str(aliases.get(alias)) != str(version):
                client.set_registered_model_alias(runs.name, alias, version)
            found.append(Aliased(alias, held.run, str(version)))
    except failure as reason:
        raise StorageFailure(
            f"The aliases of `{runs.name}` could not be set.",
            expected="a store that registers models",
            received=str(reason),
            advice="Check the store; the same call goes on where this one ended.",
        ) from reason
    return tuple(found)
