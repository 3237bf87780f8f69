"""The world: scenes, rigs, layouts, the reference renderer, and the generative world model."""

import os

# Before torch loads OpenMP: threads that wait at a barrier spin briefly, then sleep. Spinning for long is tens of times slower
# as soon as anything else (an encoder, a browser, a second worker) wants the same cores: one highway chunk took 12 to 25 s
# and 0.7 to 0.9 s sleeping. Sleeping at once wakes too late: a pass of the transformer took 98 ms on two idle cores, and 41
# with a spin count of 10,000 (39 at 100,000).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
