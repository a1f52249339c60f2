"""One turn of the scheduler: load what has changed, ask `xchronos.scheduler` what to do, hand it to the committer."""
