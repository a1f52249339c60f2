"""`xchronosctl`, the command line.

A person waits for every module that is imported, so a module imports what is slow only when a command runs
(`test_nothing_slow_is_imported_for_a_list` in tests/cli/test_ctl_program.py).
"""
