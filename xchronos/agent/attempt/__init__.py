"""One attempt on this machine: its steps in order, its end, its result, and the journal that outlives the agent."""
