"""Which units are this scheduler's: the ownership of shards, the lease behind it, and the silence of others."""
