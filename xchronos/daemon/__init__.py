"""`xchronosd`: puts the roles together, starts them in order and stops them in order."""
