"""`xchronosd`: it builds the roles from the settings, starts them in order, and stops them in order."""
