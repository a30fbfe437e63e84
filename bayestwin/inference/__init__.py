"""From a log density to draws: where chains start, and the methods that draw. One method a module, one shape.

A new one is a function from a `Problem` to `Draws`, and a `Method` that is registered: see `docs/extending.md`.
"""

from bayestwin.inference.method import METHODS, Draws, Method, Problem, register, unregister

__all__ = ["METHODS", "Draws", "Method", "Problem", "register", "unregister"]
