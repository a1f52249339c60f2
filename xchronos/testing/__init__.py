"""What tests of xchronos, and of extensions to it, are made of. Public; imported by no room of the product."""
