"""What stands between tests and stores: real servers (etcd, Consul) that they start and hurt, links that they cut, waiting."""
