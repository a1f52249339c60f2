"""The cluster store on Consul's key-value space, from 1.8 on.

Consul has neither revisions nor watches nor Txns that would do for the store contract. So this store keeps a log in
Consul, and every client follows that log into a copy of the whole store in memory. Start with the docstring of
`store`, which explains the design and what it costs. Then:

- `layout` has the names of all keys in Consul and how each value is written (pure);
- `mirror` is the copy in memory, and the draft of what a write would make of it (pure);
- `log` reads the log and appends to it; `writer` is the one task that makes entries of what callers ask for;
- `fold` keeps the log short; `leases` ends leases that have run out;
- `http` speaks to the agents and says what their errors mean; `access` says how the cluster is reached.
"""
