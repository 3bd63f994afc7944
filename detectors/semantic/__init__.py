"""Judgement by meaning: a cheap front stage, an encoder with one head per origin, and an index of exemplars."""

import os

# The front stage multiplies small matrices thousands of times a second. Threads of a linear algebra library do not make
# these faster, and where cores are busy they wait for each other a thousand times longer than the product takes. The
# library reads this when it is loaded, which the modules of this package do.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
