"""Processes: settings, the connection to Temporal, the embedded server, and the workers that run everything below.

- `worker.settings`    what can be configured, and from where
- `worker.connection`  which Temporal is meant, and a client for it
- `worker.bootstrap`   what a namespace must have before a supervisor can run in it
- `worker.embedded`    a Temporal server of our own, as a child process with a database file
- `worker.run`         the workers, from start to a shutdown that costs no activity attempt
- `worker.local`       the local transport of one sprite
"""
