"""Web servers for people other than the author of a run: ports, who may send requests, and start and stop.

By default, a server listens on the loopback interface and answers only requests from this machine. On other interfaces,
it also requires a token.
"""
