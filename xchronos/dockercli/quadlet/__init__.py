"""`[Container]`: quadlet's keys as options of `docker run`."""
