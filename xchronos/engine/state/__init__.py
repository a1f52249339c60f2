"""What a scheduler knows, in memory: executions, machines, cursors, work to do. Nothing here writes."""
