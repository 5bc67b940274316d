"""A tamper-evident record of calls."""
