"""Credentials, the verifiers that judge them, and the principals they give."""
