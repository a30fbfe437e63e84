"""`bayestwin watch` counts each row that arrives once, whatever dies when, and leaves to people what is not ok."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
import pytest
import xarray as xr
from tank_model import run_command, telemetry_text

import bayestwin as bt
from bayestwin.project.model import load_model
from bayestwin.project.record import locked, read_record
from bayestwin.project.run import Carried
from bayestwin.project.update import update_model
from bayestwin.project.watch import FolderSource, alpha_at, read_state, watch_model

_, HEAD, *ROWS = telemetry_text().splitlines()
LATER = ROWS[24:]
WATCH = '\n[watch]\nsettle = "PT0.01S"\n'
"""Files settle at once."""


class Site(NamedTuple):
    """A model with runs, and a folder in which telemetry arrives."""

    model: pathlib.Path
    results: pathlib.Path
    incoming: pathlib.Path

    def arrive(self, name: str, rows: list[str]) -> pathlib.Path:
        path = self.incoming / name
        path.write_text("\n".join([HEAD, *rows]) + "\n", encoding="utf-8")
        return path

    def watch(self, *options: object) -> tuple[int, str, str]:
        told = ["--source", self.incoming, "--once", "--results", self.results]
        return run_command("watch", self.model, *told, *options)

    @property
    def folder(self) -> pathlib.Path:
        return self.results / "tank"

    @property
    def runs(self) -> list[pathlib.Path]:
        return sorted(path.parent for path in self.folder.glob("*/run.json"))

    def place(self):
        found = read_state(self.folder / "watch")
        assert found is not None
        return found

    def fates(self) -> dict[str, str]:
        return {name: one.fate for name, one in self.place().arrived.items()}

    def newest(self) -> xr.DataTree:
        return bt.load(self.folder / self.place().newest / "posterior.nc")

    def chain(self) -> list[str]:
        """Runs from the one that it was begun with to the newest, by what each was made of."""
        place, found = self.place(), [self.place().newest]
        while found[-1] != place.begun:
            found += read_record(self.folder / found[-1])["uses"]
        return found[::-1]


def made_site(calibrated: pathlib.Path, root: pathlib.Path, watch: str) -> Site:
    """A copy of what was calibrated, whose job says how it is watched."""
    site = Site(root / "models" / "tank", root / "results", root / "incoming")
    shutil.copytree(calibrated, root)
    site.incoming.mkdir()
    with (site.model / "job.toml").open("a", encoding="utf-8") as job:
        job.write(watch)
    return site


@pytest.fixture
def site(calibrated_for_watching: pathlib.Path, tmp_path: pathlib.Path) -> Site:
    return made_site(calibrated_for_watching, tmp_path / "site", WATCH)


def check_once(site: Site, rows: list[str]) -> None:
    """All rows that were calibrated, and these, are in the newest posterior, each of them once."""
    times = np.sort([float(row.split(",")[0]) for row in [*ROWS[:24], *rows]])
    posterior = site.newest()
    np.testing.assert_array_equal(posterior["observed_data"]["time"], times)
    assert sum(one["readings"] for one in posterior.attrs["updates"]) == len(rows)
    assert [one["revised"] for one in posterior.attrs["updates"]] == [0] * len(posterior.attrs["updates"])


@pytest.mark.thorough
def test_files_are_taken_in_by_the_numbers_in_their_names_as_updates(site: Site) -> None:
    site.arrive("part_10.csv", LATER[4:8])
    site.arrive("part_9.csv", LATER[:4])
    site.arrive("other.txt", LATER[8:12])
    site.arrive(".hidden.csv", LATER[8:12])
    code, out, err = site.watch()
    assert (code, out, err) == (0, "", "")  # nothing needs anybody
    assert site.fates() == {"part_9.csv": "counted", "part_10.csv": "counted"}
    check_once(site, LATER[:8])
    assert [one["rows"] for one in site.newest().attrs["updates"]] == [4, 4]
    begun, by_hand = site.place().begun, []
    for name in ("part_9.csv", "part_10.csv"):
        made: Carried = update_model(load_model(site.model), site.results, site.incoming / name, (begun, *by_hand)[-1])
        by_hand.append(made.run.name)
    ours, theirs = (bt.load(site.folder / run / "posterior.nc") for run in (site.place().newest, by_hand[-1]))
    xr.testing.assert_identical(ours["posterior"].to_dataset(), theirs["posterior"].to_dataset())
    assert not (site.folder / "registry.jsonl").exists()

    before = site.runs
    assert site.watch() == (0, "", "")
    assert site.runs == before


class Died(BaseException):
    """Nothing is written from here on: what a killed process leaves."""


def die_at(monkeypatch: pytest.MonkeyPatch, results: pathlib.Path, number: int) -> list[int]:
    """Have everything that takes the place of a file of the results fail from that one on; how many there were."""
    replace, count = os.replace, [0]

    def counted(source: object, target: object) -> None:
        count[0] += str(target).startswith(str(results))
        if count[0] > number:
            raise Died
        replace(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "replace", counted)
    return count


def watched(site: Site) -> None:
    watch_model(load_model(site.model), site.results, FolderSource(site.incoming, 0.01), once=True)


@pytest.mark.parametrize(("files", "deaths"), [(1, 1), pytest.param(2, 10, marks=pytest.mark.slow)])
def test_whatever_it_dies_of_each_row_counts_once_and_the_posterior_is_the_same(
    site: Site, monkeypatch: pytest.MonkeyPatch, files: int, deaths: int
) -> None:
    for number in range(files):
        site.arrive(f"{number}.csv", LATER[4 * number : 4 * number + 4])
    pristine = shutil.copytree(site.results, site.results.with_name("pristine"))
    with monkeypatch.context() as patched:
        count = die_at(patched, site.results, sys.maxsize)
        watched(site)
    undisturbed = site.newest()["posterior"].to_dataset()
    # the last one is that of `watch.json`, when all else is there
    made = 0
    places = [*sorted(random.Random(0).sample(range(count[0] - 1), deaths - 1)), count[0] - 1]
    for place in places:
        shutil.rmtree(site.results)
        shutil.copytree(pristine, site.results)
        with monkeypatch.context() as patched:
            die_at(patched, site.results, place)
            with pytest.raises(Died):
                watched(site)
        made = len(site.runs)
        watched(site)
        check_once(site, LATER[: 4 * files])
        assert len(site.chain()) == files + 1
        xr.testing.assert_identical(site.newest()["posterior"].to_dataset(), undisturbed)
    assert len(site.runs) == made  # a run that was whole, and not written down, is found again and not made again


KILLED = """
import pathlib, sys
from bayestwin.project.model import load_model
from bayestwin.project.watch import FolderSource, watch_model
model, results, incoming = map(pathlib.Path, sys.argv[1:])
print("begun", flush=True)
watch_model(load_model(model), results, FolderSource(incoming, 0.01), once=True)
"""


@pytest.mark.slow
def test_killed_at_random_moments_it_counts_each_row_once(site: Site) -> None:
    for number in range(3):
        site.arrive(f"{number}.csv", LATER[4 * number : 4 * number + 4])
    pristine = shutil.copytree(site.results, site.results.with_name("pristine"))
    watched(site)
    undisturbed = site.newest()["posterior"].to_dataset()
    shutil.rmtree(site.results)
    shutil.copytree(pristine, site.results)
    rng, kills = random.Random(1), 0
    arguments = [sys.executable, "-c", KILLED, *map(str, (site.model, site.results, site.incoming))]
    while kills < 40:
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(rng.uniform(0.5, 12.0))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += 1
                continue
        assert process.returncode == 0
        break
    watched(site)
    assert kills >= 2
    check_once(site, LATER[:12])
    assert len(site.chain()) == 4
    xr.testing.assert_identical(site.newest()["posterior"].to_dataset(), undisturbed)


@pytest.mark.thorough
def test_ctrl_c_loses_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.arrive("a.csv", LATER[:4])

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["bayestwin.project.update"], "save", stopped)
        assert site.watch()[0] == 130
    assert site.fates() == {}
    assert site.watch()[0] == 0
    check_once(site, LATER[:4])


def test_a_file_that_is_still_being_written_waits(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = site.arrive("growing.csv", LATER[:2])
    whole = site.arrive("whole.csv", LATER[4:8]).name
    source, sleep = FolderSource(site.incoming, 0.01), time.sleep

    def written_meanwhile(seconds: float) -> None:
        sleep(seconds)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(LATER[2] + "\n")

    with monkeypatch.context() as patched:
        patched.setattr(time, "sleep", written_meanwhile)
        assert [one.name for one in source.arrivals({}, float)] == [whole]
    assert [one.name for one in source.arrivals({}, float)] == ["growing.csv"]
    assert list(source.arrivals({}, float)) == []


def test_a_folder_that_is_away_for_a_while_has_no_arrivals(tmp_path: pathlib.Path) -> None:
    folder, away = tmp_path / "mounted", tmp_path / "away"
    folder.mkdir()
    source = FolderSource(folder, 0.01)
    (folder / "a.csv").write_text("a", encoding="utf-8")
    assert [one.content for one in source.arrivals({}, float)] == [b"a"]
    folder.rename(away)
    assert list(source.arrivals({}, float)) == []
    (away / "b.csv").write_text("b", encoding="utf-8")
    away.rename(folder)
    assert [one.content for one in source.arrivals({}, float)] == [b"b"]


@pytest.mark.thorough
def test_what_was_taken_for_whole_and_goes_on_counts_as_far_as_it_is_new(site: Site) -> None:
    site.arrive("a.csv", LATER[:3])
    assert site.watch()[0] == 0
    site.arrive("a.csv", LATER[:6])
    assert site.watch()[0] == 0
    check_once(site, LATER[:6])
    assert [one["rows"] for one in site.newest().attrs["updates"]] == [3, 3]


@pytest.mark.thorough
def test_a_row_twice_is_refused_and_what_comes_after_waits_until_it_is_mended(site: Site) -> None:
    site.arrive("a.csv", [*LATER[:4], LATER[3].replace(LATER[3].split(",")[1], "9.9")])
    site.arrive("b.csv", LATER[4:8])
    code, out, _ = site.watch()
    assert code == 1
    assert "a.csv  refused" in " ".join(out.split(" "))
    assert site.fates() == {"a.csv": "refused", "b.csv": "held"}  # inputs are not known up to its first row
    assert len(site.runs) == 1
    site.arrive("a.csv", LATER[:4])
    assert site.watch()[0] == 0
    check_once(site, LATER[:8])


@pytest.mark.thorough
def test_rows_and_files_may_be_out_of_order_and_clocks_may_go_back(site: Site) -> None:
    first = site.arrive("a.csv", LATER[:4][::-1])
    os.utime(first, (4e9, 4e9))  # in the next century
    assert site.watch()[0] == 0
    ahead = site.arrive("b.csv", LATER[8:12])
    os.utime(ahead, (1.0, 1.0))  # in the last one
    assert site.watch()[0] == 1
    assert site.fates() == {"a.csv": "counted", "b.csv": "held"}
    site.arrive("c.csv", LATER[4:8])
    assert site.watch()[0] == 0
    assert site.fates() == dict.fromkeys(("a.csv", "b.csv", "c.csv"), "counted")
    check_once(site, LATER[:12])


@pytest.mark.thorough
def test_the_same_rows_under_another_name_count_once(site: Site) -> None:
    site.arrive("a.csv", LATER[:4])
    site.arrive("b.csv", LATER[:4])
    assert site.watch()[0] == 0
    assert site.fates() == {"a.csv": "counted", "b.csv": "known"}
    check_once(site, LATER[:4])


@pytest.mark.thorough
@pytest.mark.parametrize("content", ["", HEAD + "\n"])
def test_an_empty_file_is_refused_until_it_has_rows(site: Site, content: str) -> None:
    (site.incoming / "a.csv").write_text(content, encoding="utf-8")
    assert site.watch()[0] == 1
    assert site.fates() == {"a.csv": "refused"}
    assert len(site.runs) == 1
    site.arrive("a.csv", LATER[:4])
    assert site.watch()[0] == 0
    check_once(site, LATER[:4])


@pytest.mark.thorough
def test_there_is_one_watch_of_a_model_and_it_follows_one_source(site: Site) -> None:
    site.arrive("a.csv", LATER[:4])
    (site.folder / "watch").mkdir()
    with locked(site.folder / "watch"):
        code, _, err = site.watch()
    assert (code, "is watched already" in err) == (1, True)
    assert site.watch()[0] == 0
    other = site.incoming.with_name("elsewhere")
    other.mkdir()
    code, _, err = run_command("watch", site.model, "--source", other, "--once", "--results", site.results)
    assert (code, "follows another source" in err) == (2, True)
    code, _, err = run_command("watch", site.model, "--source", other / "none", "--once", "--results", site.results)
    assert (code, "There is no folder" in err) == (2, True)


@pytest.mark.thorough
def test_a_place_that_was_changed_is_refused(site: Site) -> None:
    site.arrive("a.csv", LATER[:4])
    assert site.watch()[0] == 0
    path = site.folder / "watch" / "watch.json"
    whole = path.read_text(encoding="utf-8")
    for changed in (whole.replace('"counted"', '"refused"'), whole[:-20], "[]", "{}"):
        path.write_text(changed, encoding="utf-8")
        code, _, err = site.watch()
        assert (code, "is not what a watch wrote" in err) == (2, True)


def shifted(rows: list[str], by: float) -> list[str]:
    """The rows with a gauge that reads more."""
    column = HEAD.split(",").index("gauge")
    cells = [row.split(",") for row in rows]
    return [",".join(f"{float(c) + by:.4f}" if k == column else c for k, c in enumerate(row)) for row in cells]


@pytest.mark.thorough
def test_what_is_not_as_forecast_is_held_until_somebody_decides(site: Site) -> None:
    site.arrive("a.csv", shifted(LATER[:6], 2.0))
    code, out, _ = site.watch("--json")
    assert (code, json.loads(out)["verdict"], json.loads(out)["fate"]) == (1, "act", "held")
    site.arrive("b.csv", shifted(LATER[6:10], 2.0))
    code, out, _ = site.watch("--json")
    assert (code, json.loads(out)["verdict"]) == (1, "act")
    assert site.fates() == {"a.csv": "held", "b.csv": "held"}
    assert len(site.runs) == 1
    shown = json.loads((site.runs[0] / "monitor.json").read_text(encoding="utf-8"))
    assert shown["num_readings"] == 10  # both files, since neither was taken in

    whole = site.incoming.with_name("whole.csv")
    whole.write_text("\n".join([HEAD, *shifted(LATER[:10], 2.0)]) + "\n", encoding="utf-8")
    code, out, err = run_command(
        "update", site.model, "--telemetry", whole, "--forget", "0.5", "--results", site.results, "--json"
    )
    assert code in (0, 1), err
    decided = site.runs[-1].name
    assert site.watch("--run", decided)[0] == 0
    assert site.fates() == {"a.csv": "known", "b.csv": "known"}
    assert (site.place().newest, site.place().begun) == (decided, decided)


def test_looks_spend_the_probability_of_a_false_alarm_once() -> None:
    spent = [alpha_at(0.05, looks) for looks in range(10_000)]
    assert 0.0499 < sum(spent) < 0.05
    assert spent == sorted(spent, reverse=True)
