"""`[Container]`: the keys of podman's quadlet as a body for the Engine API.

Nothing is imported here; take what you need from the modules.

- `container`: `container_body`, which reads the whole section. Start here.
- `keys`: the table of keys, each with the rule that reads it.
- `reading`: how a key's values are read: their quotes, words and variables. `variables`: the variables of `[Service]`.
- `rules`: what the values become. `draft`: the object in which the rules collect their results.
"""
