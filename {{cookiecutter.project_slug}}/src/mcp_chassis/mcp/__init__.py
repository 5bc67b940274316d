"""The MCP server and its transports, on the SDK."""
