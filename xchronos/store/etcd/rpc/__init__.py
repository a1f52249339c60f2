"""etcd's messages and calls, generated: `messages.proto` and `services.proto` say what there is, and what it means."""
