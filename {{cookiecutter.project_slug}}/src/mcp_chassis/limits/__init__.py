"""What bounds callers: rates, lockout, concurrency."""
