"""Solving a twin: the grid of times at which the solver stops, the steppers between them, and sensitivities."""
