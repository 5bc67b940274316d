"""Which tools were reviewed, and what the lint rejects."""
