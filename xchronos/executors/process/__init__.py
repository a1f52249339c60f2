"""Steps as processes of the machine."""
