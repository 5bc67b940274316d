"""OAuth 2.1 access tokens."""
