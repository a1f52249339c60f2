"""What goes over the wire between a daemon's API and its clients.

`messages` and `limits` are quick to import; `details` needs the records of the model.
"""
