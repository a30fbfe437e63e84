"""Twin + telemetry → log density, and predictions for given values of its quantities."""
