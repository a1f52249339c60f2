"""Real servers that tests start for themselves, on free ports and in temporary directories: etcd, Consul."""
