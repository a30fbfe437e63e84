"""Functional mock-up units: co-simulation FMUs as twins, and calibrated twins as FMUs."""
