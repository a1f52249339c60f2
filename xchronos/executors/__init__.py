"""Runs one step of an attempt: in a container, as a process of this machine, or as a call of a function.

Start with `contract`: it says in words what an executor promises; `xchronos.testing.executors` checks that. `noop` is
the plainest executor (a call in this process), `process` runs host processes, and `docker` runs containers and docker
command lines. `logfile` keeps a step's output within bounds, `signals` knows the signals' names, and `hostfacts` reads
what identifies boots and processes.

This package imports nothing: the guardian and the launcher of host processes start from here with the standard library
only.
"""
