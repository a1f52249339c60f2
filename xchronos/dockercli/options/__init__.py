"""The options of `docker run` and `docker create`, by what they are about."""
