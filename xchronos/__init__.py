"""xchronos: scheduled batch jobs in Docker, written as systemd-style unit files.

The package is built in rooms. packaging/CONTRIBUTING.md shows them under "The house". A room imports only from the
rooms below it.
"""

__version__ = "0.1.0"
