"""The names of the registry, each from the module that holds it."""

from .production import history as history
from .production import rollback as rollback
from .production import stages as stages
from .promotion import approve as approve
from .promotion import promote as promote
from .shadowing import shadow as shadow
