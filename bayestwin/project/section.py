"""What every table of a job file is: a model of pydantic that refuses what it does not know."""

import datetime
from typing import Annotated

import pydantic

type Moment = float | datetime.datetime | datetime.date | str

type Seed = Annotated[int, pydantic.Field(ge=0, lt=2**63)]


class Section(pydantic.BaseModel):
    """A table of the job file: unknown keys and wrong types are errors, nothing changes after reading."""

    model_config = pydantic.ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, serialize_by_alias=True
    )
