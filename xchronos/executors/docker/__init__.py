"""Steps in containers, through the Docker Engine API."""
