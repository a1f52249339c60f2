"""The role "api": the HTTP API of a daemon.

Nothing is imported here. The API's messages are in `xchronos.wire`, so that clients need no web framework.
"""
