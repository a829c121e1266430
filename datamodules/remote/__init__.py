"""Data sets in remote storage: addresses, clients with retries, and a bounded cache of shards on each node."""
