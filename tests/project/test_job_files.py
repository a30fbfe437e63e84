"""A job file that is wrong is an error that names the key or the line, and says what was meant."""

import ast
import pathlib

import pytest

from bayestwin.errors import InvalidJob
from bayestwin.project.job import read_job

FILE = "[telemetry]\nfile = 'room.csv'\n"


def read(folder: pathlib.Path, text: str | bytes) -> object:
    path = folder / "job.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_job(path)


@pytest.mark.parametrize(
    ("text", "key", "expected", "received"),
    [
        ("telemetry = 3", "telemetry", "a table", "the whole number 3"),
        ("[[telemetry]]\nfile = 'a'", "telemetry", "a table", "the list"),
        ("[telemetry]\nfile = 3", "telemetry.file", "text in quotes", "the whole number 3"),
        (FILE + "units = 'K'", "telemetry.units", "a table such as", "the text 'K'"),
        (FILE + "units = { indoor = 3 }", "telemetry.units.indoor", "text in quotes", "the whole number 3"),
        (FILE + "t0 = true", "telemetry.t0", "a date such as 2026-03-21", "true"),
        (FILE + "[split]\nhold_out_from = [1]", "split.hold_out_from", "a date such as", "the list [1]"),
        (FILE + "[split]\nend = 07:32:00", "split.end", "a date such as", "the time"),
        (FILE + "[calibrate]\nnum_samples = 1e3", "calibrate.num_samples", "a whole number", "the number 1000.0"),
        (FILE + "[calibrate]\nnum_samples = '9'", "calibrate.num_samples", "a whole number", "the text '9'"),
        (FILE + "[calibrate]\nnum_chains = 0", "calibrate.num_chains", "greater than or equal to 1", "0"),
        (FILE + "[calibrate]\nseed = -1", "calibrate.seed", "greater than or equal to 0", "-1"),
        (FILE + "[calibrate]\nseed = true", "calibrate.seed", "a whole number", "true"),
        (FILE + "[predict]\nseed = 9223372036854775808", "predict.seed", "less than", "9223372036854775808"),
        (FILE + "[calibrate]\ntarget_acceptance = 1.0", "calibrate.target_acceptance", "less than 1", "1.0"),
        (FILE + '[gates]\nstrict = ["rhatt"]', "gates.strict", "true, false, or a list of `modes`", "list"),
        (FILE + "[gates]\nstrict = 1", "gates.strict", "true, false, or a list of", "whole number 1"),
        (FILE + '[gates]\ncoverage = "maybe"', "gates.coverage", "'report', 'warn' or 'fail'", "maybe"),
        (FILE + "[gates]\nmax_rhat = nan", "gates.max_rhat", "a finite number", "nan"),
        (FILE + "[gates]\nmax_rhat = inf", "gates.max_rhat", "a finite number", "inf"),
    ],
)
def test_a_wrong_type_or_value_names_its_key(
    tmp_path: pathlib.Path, text: str, key: str, expected: str, received: str
) -> None:
    with pytest.raises(InvalidJob) as caught:
        read(tmp_path, text)
    words, *lines = str(caught.value).splitlines()
    assert f"`{key}`" in words
    assert "job.toml" in words
    assert lines[0].startswith(f"  Expected: {expected}")
    assert lines[1].startswith("  Received: ")
    assert received in lines[1]


@pytest.mark.parametrize(
    ("text", "key", "advice"),
    [
        (FILE + "rname = {}", "telemetry.rname", "Did you mean `rename`?"),
        (FILE + "[split]\nhold_out_form = 1", "split.hold_out_form", "Did you mean `hold_out_from`?"),
        (FILE + "[calibrat]\nseed = 1", "calibrat", "Did you mean `calibrate`?"),
        ("[telemetri]\nfile = 'a'", "telemetri", "Did you mean `telemetry`?"),
        (FILE + "num_samples = 9", "telemetry.num_samples", "`num_samples` belongs beneath `[calibrate]`."),
        (FILE + "[gates]\nzebra = 1", "gates.zebra", "Remove it, or correct its name."),
        (FILE + "[calibrate.deep]\nseed = 1", "calibrate.deep", "Remove it, or correct its name."),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(tmp_path: pathlib.Path, text: str, key: str, advice: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        read(tmp_path, text)
    assert f"unknown key `{key}`" in str(caught.value)
    assert str(caught.value).endswith(advice)


def test_all_that_is_wrong_is_counted_once(tmp_path: pathlib.Path) -> None:
    text = FILE + "t0 = true\n[calibrate]\nnum_chain = 4\nseed = 'x'"
    with pytest.raises(InvalidJob, match=r"`calibrate.num_chain` \(2 more wrong after this\)"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "place", "line"),
    [
        ("[telemetry\nfile = 'a'", "line 1, column 11", "[telemetry"),
        ("[telemetry]\nfile = a", "line 2, column 8", "file = a"),
        (FILE + "file = 'again'", "line 3, column 15", "file = 'again'"),
        (FILE + "[telemetry]\ntime = 'Time'\n", "line 3, column 11", "[telemetry]"),
        (FILE + "[split]\nend = '2026", "line 4", "end = '2026"),
    ],
)
def test_what_is_no_toml_names_line_and_column(tmp_path: pathlib.Path, text: str, place: str, line: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        read(tmp_path, text)
    assert "not valid TOML" in str(caught.value)
    assert place in str(caught.value)
    assert line in str(caught.value).splitlines()[2]


def test_text_in_another_encoding_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InvalidJob, match="not valid TOML"):
        read(tmp_path, "[telemetry]\nfile = 'Küche.csv'".encode("latin-1"))


def test_the_mark_of_a_windows_editor_is_no_error(tmp_path: pathlib.Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbf" + FILE.encode()).telemetry.file == "room.csv"


@pytest.mark.parametrize(
    ("text", "received"),
    [("", "an empty file"), ("[calibrate]\nseed = 1", "`[calibrate]`")],
)
def test_telemetry_must_be_there(tmp_path: pathlib.Path, text: str, received: str) -> None:
    with pytest.raises(InvalidJob, match="lacks `telemetry`") as caught:
        read(tmp_path, text)
    assert f"Received: {received}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "received"),
    [("[telemetry]\ntime = 'a'", "`time`"), (FILE + "dataset = 'armadillo'", "`file`, `dataset`")],
)
def test_telemetry_is_a_file_or_a_dataset(tmp_path: pathlib.Path, text: str, received: str) -> None:
    with pytest.raises(InvalidJob, match="one of `file`, `dataset` and `database`") as caught:
        read(tmp_path, text)
    assert f"Received: {received}" in str(caught.value)


def test_what_is_known_of_a_dataset_need_not_be_said_again(tmp_path: pathlib.Path) -> None:
    home = read(tmp_path, "[telemetry]\ndataset = 'dutch_home'").telemetry
    assert (home.time, home.separator) == ("t", ";")
    assert home.units == {"Ps": "kW/m^2", "Ta": "degC", "yTi": "degC", "Thm": "degC"}
    assert read(tmp_path, "[telemetry]\ndataset = 'ucl_wall'").telemetry.skip_rows == [2, 3]
    said = "dataset = 'dutch_home'\ntime = 'hour'\nunits = {Ta = 'degF', indoor = 'K'}\nrename = {yTi = 'indoor'}"
    ours = read(tmp_path, f"[telemetry]\n{said}").telemetry
    assert (ours.time, ours.separator) == ("hour", ";")
    assert ours.units == {"Ps": "kW/m^2", "Ta": "degF", "indoor": "K", "Thm": "degC"}
    assert read(tmp_path, "[telemetry]\ndataset = 'sir'").telemetry.time == "time"  # no table of rows by time
    kept = ours.model_dump(mode="json")
    assert type(ours).model_validate(kept) == ours


def test_a_job_that_is_not_there_lists_those_that_are(tmp_path: pathlib.Path) -> None:
    (tmp_path / "winter.toml").write_text(FILE)
    with pytest.raises(InvalidJob, match=r"(?s)no job file.*in that folder: `winter.toml`.*`--job`"):
        read_job(tmp_path / "job.toml")


def test_times_may_be_dates_numbers_or_text(tmp_path: pathlib.Path) -> None:
    split = "[split]\nstart = 1913\nhold_out_from = 2026-03-21\nend = '2026-04-01T00:00Z'"
    job = read(tmp_path, FILE + split)
    assert (job.split.start, str(job.split.hold_out_from), job.split.end) == (1913.0, "2026-03-21", "2026-04-01T00:00Z")


@pytest.mark.parametrize(
    "text",
    [
        '!!python/object/apply:os.system ["touch {mark}"]\n',
        'telemetry: !!python/object/apply:os.system ["touch {mark}"]\n',
        'telemetry = !!python/object/apply:os.system ["touch {mark}"]\n',
        "--- !!python/object/new:pathlib.Path\nargs: [{mark}]\n",
    ],
)
def test_objects_of_another_language_are_not_made(tmp_path: pathlib.Path, text: str) -> None:
    """A job is TOML, whatever its file is called: it cannot say what is to be run (fault 89)."""
    mark = tmp_path / "mark"
    with pytest.raises(InvalidJob, match=r"not valid TOML(?s:.*)line 1, column"):
        read(tmp_path, text.format(mark=mark))
    assert not mark.exists()


def test_text_that_names_an_object_stays_text(tmp_path: pathlib.Path) -> None:
    job = read(tmp_path, "[telemetry]\nfile = '!!python/object/apply:os.system [\"true\"]'\n")
    assert job.telemetry.file.startswith("!!python/object")


def test_nothing_here_reads_pickles_and_yaml_is_read_as_plain_values() -> None:
    """YAML of PEtab problems alone, without the tags that would make objects."""
    package = pathlib.Path(__file__).parents[2] / "bayestwin"
    for path in package.rglob("*.py"):
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        imports, of_yaml = set[str](), set[str]()
        for node in tree:
            if isinstance(node, ast.Import):
                imports |= {one.name.partition(".")[0] for one in node.names}
            elif isinstance(node, ast.ImportFrom):
                imports.add(str(node.module).partition(".")[0])
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "yaml":
                of_yaml.add(node.attr)
        allowed = {"yaml"} if path.relative_to(package).as_posix() == "petab/tables.py" else set[str]()
        assert imports.isdisjoint({"yaml", *PICKLES} - allowed), path
        assert of_yaml <= {"safe_load", "YAMLError"}, path


PICKLES = ("pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib")
