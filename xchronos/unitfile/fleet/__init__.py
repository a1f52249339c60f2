"""`[X-Fleet]`, with the semantics of fleet 1.0."""
