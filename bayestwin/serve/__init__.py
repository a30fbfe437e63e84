"""Production over HTTP: the forecasts of what the registry has in production, without the code of any model."""
