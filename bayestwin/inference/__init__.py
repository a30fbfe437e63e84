"""From a log density to draws: where chains start, and the methods that move them. One method a module."""
