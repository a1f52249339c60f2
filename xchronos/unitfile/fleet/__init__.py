"""What fleet 1.0 made of a unit file. Nothing is imported here; take what you need from the modules.

- `requirements`: the keys of `[X-Fleet]`, read as fleet did and as xchronos does. Start here.
- `placement`: whether a machine may run a unit, and which machine fleet would choose.
- `syntax`: where fleet's reading of a file's lines differed from systemd's.
"""
