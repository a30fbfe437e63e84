"""Many jobs, each in a process of its own: one that crashes, hangs or eats the memory loses itself and no other."""
