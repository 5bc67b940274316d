"""What happened: logging, security events, health."""
