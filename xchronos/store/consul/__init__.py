"""The store on Consul's key-value space."""
