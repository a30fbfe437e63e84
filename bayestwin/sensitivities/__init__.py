"""What a result hangs on: the quantities behind a prediction, the prior, single observations."""

from bayestwin.sensitivities.influence import influence
from bayestwin.sensitivities.power_scaling import power_scaling
from bayestwin.sensitivities.sensitivity import sensitivity

__all__ = ["influence", "power_scaling", "sensitivity"]
