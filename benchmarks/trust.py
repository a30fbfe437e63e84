"""Do intervals hold on real records that calibration has not seen, raw and conformal?

Each twin is calibrated once, on the start of its record; from origins that follow each other it then predicts to the
next, led by what was observed until then. Conformal intervals at an origin are made from errors known by then. Coverage
at each `prob` stands beside the band in which independent errors would let it lie (`*` is outside), and beside that
which allows for dependent ones (`!` is outside). The seed is always the same.
"""

# ArviZ, where it is imported before NumPyro, hides one of NumPyro's modules.
import numpyro.distributions  # noqa: F401

# isort: split
import argparse
import pathlib
import time

import xarray as xr

import bayestwin as bt
from bayestwin.project.model import load_model, load_telemetry
from trust_series import ROOT, SERIES, origins_of

SEED = 0
PROB = (0.5, 0.8, 0.9, 0.95)
METHODS = ("split", "adaptive")
QUICK = {"method": "laplace", "num_samples": 250, "num_chains": 2, "predictive_draws": 100, "draws": 400}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--series", nargs="*", choices=[*SERIES, "lynx_hare"], default=[*SERIES, "lynx_hare"])
    options.add_argument("--save", type=pathlib.Path, help="folder where backtests are kept, and taken from")
    asked = options.parse_args()
    for name in asked.series:
        begun = time.perf_counter()
        if name == "lynx_hare":
            lynx_hare()
        else:
            held_out(name, asked.save)
        print(f"{time.perf_counter() - begun:.0f} s\n", flush=True)


def held_out(name: str, folder: pathlib.Path | None) -> None:
    """One record: coverage of raw and conformal intervals."""
    series = SERIES[name]()
    origins, horizon = origins_of(series)
    kept = None if folder is None else folder / f"{name}.nc"
    if kept is not None and kept.exists():
        tree = bt.load(kept)
    else:
        asked = {"origins": origins, "horizon": horizon, "seed": SEED, "recalibrate": False}
        tree = bt.backtest(series.twin, series.telemetry, **asked, **QUICK)
        if kept is not None:
            bt.save(tree, kept)
    gates = sorted(set(tree["origins"]["failed_gates"].values) - {""})
    failed = int((tree["origins"]["failure"] != "").sum())
    print(
        f"{name}: {series.words}; {len(origins)} origins, {failed} failed; gates failed: {', '.join(gates) or 'none'}"
    )
    scored = bt.scores(tree)
    for observation in scored["observation"].values:
        own = scored.sel(observation=observation)
        print(f"  {observation}: rmse {float(own['rmse']):.3g} {own['units'].item()}, skill {float(own['skill']):.2f}")
    print(f"  PIT within its band: {bt.pit(tree, seed=SEED)['within_band'].to_series().to_dict()}")
    for method in METHODS:
        conformal = bt.conformalize(tree, PROB, method=method)
        table(bt.coverage(conformal), method)
        # points at one horizon come from different origins, and hardly depend on each other
        apart = bt.coverage(conformal, by="horizon")["within_band"]
        counts = ", ".join(f"{kind} {int(apart.sel(kind=kind).sum())}" for kind in ("raw", "conformal"))
        print(f"  {method}, by horizon, within the band: {counts} of {apart.size // 2}")


def table(covered: xr.Dataset, method: str) -> None:
    """Raw beside conformal, with bands; marks where coverage lies outside."""
    for observation in covered["observation"].values:
        for prob in covered["prob"].values:
            own = covered.sel(observation=observation, prob=prob)
            raw, conformal = own.sel(kind="raw"), own.sel(kind="conformal")
            print(
                f"  {method:<9}{observation:<9}{100 * prob:5.0f} %  raw {share(raw)} {band(raw, 'dependent')}"
                f"  conformal {share(conformal)} {band(conformal, 'dependent')}  band {band(conformal, 'band')}"
                f"  n {int(conformal['num'])}, worth {float(conformal['num_effective']):.0f}"
            )


def share(cell: xr.Dataset) -> str:
    """Coverage in %, with its marks."""
    marks = ("" if cell["within_band"] else "*") + ("" if cell["within_dependent_band"] else "!")
    return f"{100 * float(cell['coverage']):5.1f}{marks:<2}"


def band(cell: xr.Dataset, which: str) -> str:
    """A band in %."""
    return f"{100 * float(cell[f'{which}_lower']):.0f}–{100 * float(cell[f'{which}_upper']):.0f}"


def lynx_hare() -> None:
    """Lynx and hares: calibrated to 1912, predicted 1913 to 1920, and corrected by what was wrong before 1912."""
    model = load_model(ROOT / "models" / "lynx_hare")
    record = load_telemetry(model).calibration
    past, future = record.between(end=1912.5), record.between(start=1912.5)
    posterior = bt.calibrate(model.twin, past, seed=SEED)
    forecast = bt.predict(model.twin, posterior, future, seed=SEED)
    print("lynx and hares: calibrated 1900 to 1912, predicted 1913 to 1920")
    scored, covered = bt.scores(forecast, future), bt.coverage(forecast, future, PROB)
    for observation in ("hare", "lynx"):
        own = covered.sel(observation=observation)
        inside = ", ".join(
            f"{100 * p:.0f} %: {int(n)} of 8" for p, n in zip(PROB, own["num_inside"].values, strict=True)
        )
        print(f"  {observation}: inside {inside}; skill {float(scored['skill'].sel(observation=observation)):.2f}")
    tree = bt.backtest(model.twin, past, origins=range(1906, 1912), horizon=6.0, seed=SEED)
    print(f"  backtest from 1906 to 1911 within what is known: {int(bt.coverage(tree)['num'].max())} errors of each")
    covered = bt.coverage(bt.intervals(forecast, PROB[:3], conformal=bt.conformalize(tree, PROB[:3])), future)
    table(covered, "split")
    print("  95 %: needs 39 errors")


if __name__ == "__main__":
    main()
