"""The agent role: runs the attempts that are placed on this machine, and reports how they ended."""
