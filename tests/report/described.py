"""Two twins as `calibrate` describes them, and where their quantities lie."""

PELTS = "thousand"

# mean and sd of each marginal, as in the gold posterior of this record
LYNX_HARE = {
    "alpha": (0.547, 0.063, "1/year", "growth of hares alone"),
    "beta": (0.0277, 0.0042, "1/year", "loss of hares per lynx"),
    "gamma": (0.800, 0.089, "1/year", "decline of lynxes alone"),
    "delta": (0.0241, 0.0035, "1/year", "growth of lynxes per hare"),
    "hare_initial": (34.0, 2.9, PELTS, "hares at the start"),
    "lynx_initial": (5.94, 0.53, PELTS, "lynxes at the start"),
    "hare_scale": (0.248, 0.043, "", "scatter of log hare counts"),
    "lynx_scale": (0.251, 0.044, "", "scatter of log lynx counts"),
}

ROOM = {
    "R_out": (0.0175, 0.00005, "K/W", "envelope to outdoor", (-4.0, 1.0)),
    "R_in": (0.00198, 0.00002, "K/W", "indoor to envelope", (-6.0, 1.0)),
    "C_env": (1.469e7, 4.1e4, "J/K", "envelope: walls, floor & furniture", (16.0, 1.0)),
    "C_in": (1.633e6, 0.9e4, "J/K", "indoor air", (14.0, 1.0)),
    "envelope_initial": (25.1, 0.04, "degC", "envelope at the start", None),
    "indoor_initial": (26.9, 0.05, "degC", "indoor air at the start", None),
    "indoor_scale": (0.15, 0.0024, "degC", "sensor noise", None),
}
FIRST = {"envelope_initial": (25.0, 7.0), "indoor_initial": (27.0, 1.0)}


def describe_lynx_hare() -> dict:
    """What `calibrate` writes about the twin."""
    parameters = [
        {"name": name, "unit": unit, "doc": doc, "prior": "TruncatedNormal(loc=1, scale=0.5, low=0)"}
        for name, (_, _, unit, doc) in LYNX_HARE.items()
        if name in ("alpha", "beta", "gamma", "delta")
    ]
    animals = ("hare", "lynx")
    return {
        "name": "lynx_hare",
        "doc": "Hares feed lynxes: the pelts that the Hudson's Bay Company bought, as predator and prey.",
        "equations": 'def vector_field(t, x, p, u):\n    """Predator and prey."""\n'
        '    return {\n        "hare": (p.alpha - p.beta * x.lynx) * x.hare,\n'
        '        "lynx": (-p.gamma + p.delta * x.hare) * x.lynx,\n    }\n',
        "time_unit": "year",
        "states": [
            {"name": a, "unit": PELTS, "doc": f"pelts of {a}", "initial": "LogNormal(loc=2.303, scale=1)"}
            for a in animals
        ],
        "parameters": parameters,
        "inputs": [],
        "observations": [
            {
                "name": a,
                "unit": PELTS,
                "doc": "",
                "noise": "LogNormal(scale ~ LogNormal(-1, 1))",
                "of": f"state {a}",
            }
            for a in animals
        ],
    }


def describe_room() -> dict:
    """What `calibrate` writes about the room."""
    return {
        "name": "room",
        "doc": "One heated room with a heavy envelope.\n\nTwo states, four thermal parameters; heating & "
        "outdoor temperature are inputs. Solar gains are not in it.",
        "equations": 'def vector_field(t, x, p, u):\n    """Heat balance of envelope and indoor air."""\n'
        "    loss = (u.outdoor - x.envelope) / p.R_out\n"
        "    envelope = (loss + (x.indoor - x.envelope) / p.R_in) / p.C_env\n"
        "    indoor = (x.envelope - x.indoor) / (p.R_in * p.C_in) + u.heating / p.C_in\n"
        '    return {"envelope": envelope, "indoor": indoor}\n',
        "time_unit": "s",
        "states": [
            {"name": "envelope", "unit": "degC", "doc": "walls, lumped", "initial": "Normal(25, 7)"},
            {"name": "indoor", "unit": "degC", "doc": "air", "initial": "Normal(27, 1)"},
        ],
        "parameters": [
            {"name": name, "unit": unit, "doc": doc, "prior": f"LogNormal({prior[0]:g}, {prior[1]:g})"}
            for name, (_, _, unit, doc, prior) in ROOM.items()
            if prior
        ],
        "inputs": [
            {"name": "outdoor", "unit": "degC", "doc": "weather station", "hold": "linear"},
            {"name": "heating", "unit": "W", "doc": "electric heater", "hold": "previous"},
        ],
        "observations": [
            {
                "name": "indoor",
                "unit": "degC",
                "doc": "desk",
                "noise": "Gaussian(scale ~ HalfNormal(0.5))",
                "of": "indoor",
            }
        ],
    }
