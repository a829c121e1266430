"""Web servers: ports, checks of who may send requests, and starting and stopping.

By default, a server listens on the loopback interface and answers only requests from this machine. On other interfaces,
it also requires a token.
"""
