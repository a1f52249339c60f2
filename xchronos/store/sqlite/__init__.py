"""The embedded default store: one SQLite file, no server, one daemon.

Start with `store`: it serves the contract on the event loop, and reads by threads of its own. `writer` is the one
thread that writes: whatever waits is one group, one SQL transaction and one fsync. `file` has the tables, the SQL, the
lock on the file, and what SQLite's errors mean.
"""
