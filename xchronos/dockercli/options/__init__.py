"""The options of `docker run` with structured values, and systemd's keys that become such options.

Nothing is imported here; take what you need from the modules. The table of all options is `dockercli.runflags`.

- `mounts`: `--mount`, `--volume`, `--tmpfs`.
- `ports`: `--publish`, `--expose`.
- `network`: `--network` and the settings of its endpoints.
- `devices`: devices, GPUs, ulimits, sysctls, restart policies and other small values.
- `resources`: systemd's limits of `[Service]`, such as `MemoryMax=`, as parts of a container's body.
- `sandbox`: systemd's sandbox keys as parts of a container's body.
"""
