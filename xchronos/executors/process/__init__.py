"""Steps as processes of this machine that outlive the daemon.

Start with the docstring of `executor`: it says how a step survives a crash of the daemon. `wrapper` is the script that
becomes the parent of each program and writes down how it ended; `record` reads and writes the files that both sides
share; `tree` finds and signals the processes of a step.

This package imports nothing: the wrapper starts from here with the standard library only, in about 10 ms.
"""
