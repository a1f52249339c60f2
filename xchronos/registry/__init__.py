"""Domain to keys and back: records, units, executions, and every decision as a Txn."""
