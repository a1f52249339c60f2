"""How requests come in: sockets, connections, who may call, and how many are answered together.

What they are answered is the affair of `xchronos.api.routes`.
"""
