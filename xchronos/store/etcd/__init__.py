"""The cluster store on etcd v3, from 3.4 on.

The store contract is etcd's own semantics, so `store` is a translation: start there. What is difficult is everything
that fails:

- `client` speaks to one member, goes to another when that one fails, and sends again what may be sent again;
- `connection` is one channel to one member, and notices a member that has gone silent;
- `errors` turns every error into advice: did etcd certainly not do it, and where does the next try go?
- `watch` takes a broken watch up again on another member, without a gap;
- `codec` translates the contract's values into etcd's messages and back; `access` says how the cluster is reached;
- `rpc` holds etcd's messages and calls, generated from the `.proto` files beside them.
"""
