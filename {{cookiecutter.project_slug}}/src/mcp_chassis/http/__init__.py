"""HTTP/1.1 below the application: framing, connections, the server."""
