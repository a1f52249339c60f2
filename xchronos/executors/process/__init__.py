"""Steps as processes of this machine that outlive the daemon.

Start with the docstring of `executor`: it says how a step survives a crash of the daemon. `launcher` is a program of
its own, which forks the parent of each program, the *holder* (`wrapper`); `launching` is the daemon's side of it.
`table` is the file in which all of them write down how far each step is, and `held` what the daemon knows of it. `tree`
finds and signals the processes of a step, `trimming` keeps their output within bounds, and `earlier` knows the steps
that a version before the launcher has begun.

This package imports nothing: the launcher starts from here with the standard library only.
"""
