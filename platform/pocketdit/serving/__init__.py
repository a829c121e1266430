"""Parts of web servers, which find a port, check who may send requests, and start and stop the server.

By default, a server listens on the loopback interface and answers only requests from this machine. On other interfaces,
it also requires a token.
"""
