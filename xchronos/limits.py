"""How much is allowed: every size, count and deadline that guards a daemon against what others ask of it.

Nothing is imported here, so every room can go by these numbers: the pure rooms, the roles, the clients, the command
line. OPERATIONS.md has them as a table for people. A message that refuses something for its size says the limit.
"""

# -- files of the host that units name --------------------------------------------------------------------------------

HOST_FILE_BYTES = 1024 * 1024
"""The most bytes of an environment file, a label file, a seccomp profile or a secret. A step's environment has to fit
into the some 2 MiB that the kernel gives to it."""

HOST_FILES_MATCHED = 100
"""The most files that one EnvironmentFile= with wildcards matches."""

HOST_FILE_SECONDS = 10.0
"""The seconds that a host has for opening and reading one of these files."""

HOST_FILE_THREADS = 16
"""The threads that read them. A file that does not answer keeps one."""
