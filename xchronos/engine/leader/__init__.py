"""What one scheduler does for the whole cluster while it leads."""
