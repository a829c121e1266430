"""Support for web servers: finding a free port, checking who may send requests, and starting and stopping a server.

By default, a server listens on the loopback interface and answers only requests from this machine. On other interfaces,
it also requires a token.
"""
