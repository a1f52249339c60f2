"""This machine's lease: membership, how long the store's word is good for, and what a partition ends."""
