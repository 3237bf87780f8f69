"""The world: scenes, rigs, layouts, the reference renderer, and the generative world model."""

import os

# Before torch loads OpenMP: threads that wait must sleep. Spinning at barriers is a little faster on an idle machine,
# and tens of times slower as soon as anything else (an encoder, a browser, a second worker) wants the same cores:
# one highway chunk took 12 to 25 s spinning and 0.7 to 0.9 s sleeping on two busy cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
