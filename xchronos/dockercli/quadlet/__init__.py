"""`[Container]`: the keys of podman's quadlet as a body for the Engine API.

Nothing is imported here; take what you need from the modules.

- `container`: `container_body`, which reads the whole section. Start here.
- `keys`: the table of keys, each with the rule that reads it.
- `rules`: the rules. `draft`: the object in which they collect their results.
"""
