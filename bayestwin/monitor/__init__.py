"""Is a calibrated twin still right: evidence against it as telemetry comes, and what it is that changed."""
