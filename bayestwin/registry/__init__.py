"""Which run of each model is in use, on what evidence, and who decided that: `bt.registry`.

Runs are in `dev` until they are promoted to `staging`, and from there to `prod`. The names here are imported when they
are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
