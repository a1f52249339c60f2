"""What tests of xchronos, and of extensions to it, are made of. It is public, and no room of the product imports it.

- `clock`: made-up time, in which hours of schedule pass in milliseconds;
- `store` (with its parts `store_base`, `store_watches`, `store_leases`): the store contract as tests to inherit;
- `executors`: the same for executors;
- `simulation`: whole clusters under faults that are drawn from a seed.
"""
