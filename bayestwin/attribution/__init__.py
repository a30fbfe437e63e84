"""Where the uncertainty of predictions comes from: parameters, initial state, model error, inputs, noise."""

from bayestwin.attribution.shares import uncertainty_shares

__all__ = ["uncertainty_shares"]
