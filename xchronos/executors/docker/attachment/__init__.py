"""A container's output by attachment: `client` is the daemon's side, and the program `process` holds the attachment."""
