"""One turn of the scheduler: load what has changed, ask `xchronos.scheduler` what to do, have it committed.

Nothing here reads what a unit wants (a test holds that): the pure room decides, from a `View`. Whatever has to be read
from the store for a decision is read before; between the last reading and the decision nothing else happens.
"""
