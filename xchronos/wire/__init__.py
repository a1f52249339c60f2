"""What goes over the wire between a daemon's API and its clients. `messages` is quick to import."""
