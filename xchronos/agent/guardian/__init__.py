"""The guardian: a process that outlives the agent and ends what must not outlive the machine's lease."""
