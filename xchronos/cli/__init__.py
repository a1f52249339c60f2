"""xchronosctl. Modules import what they need when a command runs: a person waits for every one of them."""
