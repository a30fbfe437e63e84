"""Real populations, pooled by default settings, against published posteriors."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import scipy.stats
import xarray as xr
from arviz_stats.sampling_diagnostics import ess
from shared_data import SHARED, needs

import bayestwin as bt
from bayestwin._base.progress import Progress
from bayestwin.density.bind import bind_all
from bayestwin.density.density import build_density
from bayestwin.inference.starts import find_starts
from bayestwin.insight.information import information_of

pytestmark = [pytest.mark.slow, needs("fleet")]


@pytest.fixture(autouse=True)
def where_data_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAYESTWIN_DATA_DIR", str(SHARED))


def check_hard_gates(posterior: xr.DataTree) -> None:
    assert [gate for gate in bt.diagnose(posterior) if not gate.passed and gate.severity == "fail"] == []


RATS = {
    "initial": (106.35, 3.72),
    "growth_typical": (6.186, 0.111),
    "weight_g_scale": (6.110, 0.467),
    "middle_spread": (14.90, 2.15),
    "growth_spread": (0.533, 0.095),
}
"""Means and standard deviations of an independent Gibbs sampler; doi:10.1080/01621459.1990.10474968 has the model."""


def test_rats_grow_as_gibbs_sampling_says() -> None:
    flat = dist.Uniform(0.0, 300.0)
    twin = bt.Twin(
        name="rat",
        vector_field=lambda t, x, p, u: {"weight_g": p.growth},
        states={"weight_g": bt.State(lambda p: p.middle - 14.0 * p.growth, unit="g")},  # from day 8 to day 22
        parameters={
            "middle": bt.Parameter(dist.Normal(0.0, 100.0), unit="g", pooled=flat),
            "growth": bt.Parameter(dist.Normal(0.0, 100.0), unit="g/d", pooled=flat),
        },
        observations={"weight_g": bt.Observation(bt.Gaussian(flat), unit="g")},
        time_unit="d",
    )
    posterior = bt.calibrate(twin, bt.datasets.load("fleet"), seed=0)
    check_hard_gates(posterior)
    draws = posterior["posterior"].to_dataset()
    draws["initial"] = draws["middle_typical"] - 22.0 * draws["growth_typical"]
    for name, (mean, sd) in RATS.items():
        values = draws[name].to_numpy()
        error = sd / np.sqrt(float(ess(values)))
        rounding = 0.5 * 10.0 ** -len(str(mean).split(".")[1])
        assert abs(values.mean() - mean) < 4.0 * np.hypot(error, sd / np.sqrt(39_000)) + rounding
        assert values.std() == pytest.approx(sd, rel=0.1)


@pytest.mark.parametrize(
    "noise",
    [bt.Gaussian(dist.HalfNormal(1.0)), bt.Proportional(dist.HalfNormal(1.0), dist.HalfNormal(0.3))],
    ids=["additive", "of two parts"],
)
def test_theophylline_is_taken_up_as_published(noise: object) -> None:
    """Within the 95 % intervals of an independent estimate, and as different between subjects.

    With noise of two parts volumes may be all the same, which is where chains went astray on a bent ridge.
    """
    subjects = {}
    for name, one in bt.datasets.load("theophylline").items():
        table = one.table.assign(dose=one.table["Dose"] * one.table["Wt"])
        table.loc[table.index <= 0.0, "conc"] = np.nan
        subjects[name] = dataclasses.replace(one.with_table(table), units={**one.units, "dose": "mg"})
    twin = bt.Twin(
        name="theophylline",
        vector_field=lambda t, x, p, u: {"gut": -p.ka * x.gut, "blood": p.ka * x.gut - p.CL / p.V * x.blood},
        states={"gut": bt.State(bt.First("dose"), unit="mg"), "blood": bt.State(0.0, unit="mg")},
        parameters={
            "ka": bt.Parameter(dist.LogNormal(0.0, 1.0), unit="1/h", pooled=dist.HalfNormal(1.0)),
            "CL": bt.Parameter(dist.LogNormal(1.0, 1.0), unit="L/h", pooled=dist.HalfNormal(0.5)),
            "V": bt.Parameter(dist.LogNormal(3.5, 1.0), unit="L", pooled=dist.HalfNormal(0.5)),
        },
        observations={"conc": bt.Observation(noise, of=lambda t, x, p, u: x.blood / p.V, unit="mg/L")},
        time_unit="h",
    )
    posterior = bt.calibrate(twin, subjects, seed=0)
    check_hard_gates(posterior)
    draws = posterior["posterior"]
    published = {"ka": (1.07, 2.31, 0.715), "CL": (2.34, 3.26, 0.276), "V": (28.8, 34.4, 0.134)}
    for name, (low, high, between) in published.items():
        assert low < float(draws[f"{name}_typical"].median()) < high
        variation = jnp.sqrt(jnp.expm1(draws[f"{name}_spread"].to_numpy() ** 2))
        assert np.quantile(variation, 0.05) < between < np.quantile(variation, 0.95)


SUBJECTS, PARAMETERS = 32, ("CL", "V", "KA")
FIXED = {"CL": 0.148828, "V": 8.53898, "KA": 0.913463}
VARIANCES = {"CL": 0.0640423, "V": 0.0118257, "KA": 0.803996}
ERROR = 0.0105953
"""What NONMEM 7 found by FOCE with interaction of 32 simulated subjects: typical values, variances of the logarithms
between subjects, variance of the relative error; its objective there is 41.863969."""


def one_compartment(parameters: dict[str, bt.Parameter], relative: object) -> bt.Twin:
    return bt.Twin(
        name="warfarin",
        vector_field=lambda t, x, p, u: {"gut": -p.KA * x.gut, "blood": p.KA * x.gut - p.CL / p.V * x.blood},
        states={"gut": bt.State(70.0, unit="mg"), "blood": bt.State(0.0, unit="mg")},
        parameters=parameters,
        observations={
            "conc": bt.Observation(bt.Proportional(0.0, relative), of=lambda t, x, p, u: x.blood / p.V, unit="mg/L")
        },
        time_unit="h",
    )


def warfarin() -> dict[str, bt.Telemetry]:
    rows = pd.read_csv(SHARED / "fleet" / "warfarin_subjects.csv")
    rows = rows.rename(columns={"time_h": "time", "conc_mg_per_L": "conc"})
    return {str(name): bt.read_telemetry(own[["time", "conc"]]) for name, own in rows.groupby("subject")}


def test_modes_and_information_of_subjects_give_the_objective_of_nonmem() -> None:
    """`Σ −2 log p(y | η) + ηᵀΩ⁻¹η + log |Ω| + log |H|`, at the modes η, without the 2π of each observation.

    H is what observations are expected to tell, and the prior; Y. Wang (2007), doi:10.1007/s10928-007-9060-6.
    """
    priors = {name: dist.LogNormal(np.log(FIXED[name]), np.sqrt(VARIANCES[name])) for name in PARAMETERS}
    twin = one_compartment({n: bt.Parameter(prior, shared=False) for n, prior in priors.items()}, np.sqrt(ERROR))
    density = build_density(twin, bind_all(twin, warfarin())).filled
    starts = find_starts(density, 1, 0, Progress(show=False))
    assert starts.record["highest"] == starts.record["optimised"]
    z = starts.modes[0].z
    values = density.constrain(jnp.asarray(z))
    modes = np.stack([np.log(np.asarray(values[name]) / FIXED[name]) for name in PARAMETERS], axis=1)
    told = pd.read_csv(SHARED / "fleet" / "warfarin_foce_etas.csv")
    np.testing.assert_allclose(modes, told[[f"eta_{name}" for name in PARAMETERS]], atol=1e-3)
    omega = np.array([VARIANCES[name] for name in PARAMETERS])
    information = information_of(density, seed=0)(z[None])[0]
    num = np.isfinite(density.bound.observations["conc"]).sum()
    objective = -2.0 * float(density.parts(jnp.asarray(z))[1]) - num * np.log(2.0 * np.pi)
    for subject, eta in enumerate(modes):
        places = subject + SUBJECTS * np.arange(len(PARAMETERS))
        hessian = information[np.ix_(places, places)] + np.diag(1.0 / omega)
        objective += eta @ (eta / omega) + np.log(omega).sum() + np.linalg.slogdet(hessian)[1]
    assert objective == pytest.approx(41.863969, abs=1e-3)


def test_warfarin_pooled_agrees_with_nonmem() -> None:
    """Its estimates lie inside the intervals, which are about as wide as its standard errors say."""
    spreads = {"CL": 0.5, "V": 0.5, "KA": 1.5}
    twin = one_compartment(
        {
            name: bt.Parameter(dist.LogNormal(np.log(FIXED[name]) + 0.3, 1.0), pooled=dist.HalfNormal(spread))
            for name, spread in spreads.items()
        },
        dist.HalfNormal(0.3),
    )
    posterior = bt.calibrate(twin, warfarin(), seed=0)
    check_hard_gates(posterior)
    draws = posterior["posterior"]
    for name, error in {"CL": 0.00682, "V": 0.195, "KA": 0.1519}.items():
        typical, spread = draws[f"{name}_typical"], draws[f"{name}_spread"]
        assert float(typical.quantile(0.05)) < FIXED[name] < float(typical.quantile(0.95))
        assert float(spread.quantile(0.05)) < np.sqrt(VARIANCES[name]) < float(spread.quantile(0.95))
        assert 0.7 < float(typical.std()) / error < 1.4


def circuit(t, x, p, u):
    """Two RC pairs, one within a second and one within a minute."""
    return {"fast": (p.R1 * u.current - x.fast) / p.tau_fast, "slow": (p.R2 * u.current - x.slow) / p.tau_slow}


def cell(**pooling: dict[str, object]) -> bt.Twin:
    """An equivalent circuit around one state of charge; `pooling` says what cells have in common."""

    def about(value: float) -> dist.Distribution:
        return dist.LogNormal(jnp.log(value), 0.7)

    own = {"rest": dist.Normal(3.7, 0.3), "R0": about(0.02), "R1": about(0.01), "R2": about(0.01)}
    of_all = {"tau_fast": bt.Parameter(about(0.3)), "tau_slow": bt.Parameter(about(20.0))}
    return bt.Twin(
        name="cell",
        vector_field=circuit,
        states={"fast": bt.State(0.0), "slow": bt.State(0.0)},
        parameters={name: bt.Parameter(prior, **pooling[name]) for name, prior in own.items()} | of_all,
        inputs={"current": bt.Input(hold="previous")},
        observations={
            "voltage": bt.Observation(
                bt.Gaussian(dist.HalfNormal(0.005)),
                of=lambda t, x, p, u: p.rest + p.R0 * u.current + x.fast + x.slow,
            )
        },
    )


def pulses(charge: int) -> dict[str, bt.Telemetry]:
    """One pulse of each of four cells at 25 °C, without the rows in which the current had switched or not."""
    table = pd.read_csv(SHARED / "battery_lgm50" / "pulses.csv")
    found = {}
    for name, rows in table[(table["temp_C"] == 25) & (table["soc_pct"] == charge)].groupby("cell"):
        rows = rows[rows["step"].eq(rows["step"].shift()) | (rows["t_s"] == 0.0)]
        own = rows.set_axis([*rows.columns[:3], "time", "current", "voltage", *rows.columns[6:]], axis=1)
        found[f"cell {name}"] = bt.read_telemetry(own[["time", "current", "voltage"]])
    return found


@needs("battery_lgm50")
def test_cells_that_were_left_out_lie_in_intervals_that_the_others_make_narrow() -> None:
    spreads = {"rest": 0.05, "R0": 0.3, "R1": 0.3, "R2": 0.3}
    pooled = cell(**{name: {"pooled": dist.HalfNormal(spread)} for name, spread in spreads.items()})
    quick, inside, widths = {"method": "laplace", "num_samples": 500}, [], []
    for charge in (30, 50, 70):
        telemetry = pulses(charge)
        found = bt.leave_assets_out(pooled, telemetry, seed=0, **quick)
        inside += bt.coverage(found, telemetry)["coverage"].sel(prob=0.9, observation="voltage").to_numpy().tolist()
        intervals = bt.intervals(found, prob=0.9)
        widths.append(float((intervals["upper"] - intervals["lower"]).mean()))
    # rows of one cell lie high or low together, so that cells are counted
    held = sum(share >= 0.5 for share in inside)
    assert len(inside) == 12
    assert held >= scipy.stats.binom.ppf(0.001, 12, 0.9)
    apart = bt.leave_assets_out(cell(**{name: {"shared": False} for name in spreads}), pulses(70), seed=0, **quick)
    intervals = bt.intervals(apart, prob=0.9)
    assert max(widths) < float((intervals["upper"] - intervals["lower"]).mean()) / 5.0
