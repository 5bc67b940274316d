"""For the tests of a project: a running server, and attacks on everything that it serves."""
