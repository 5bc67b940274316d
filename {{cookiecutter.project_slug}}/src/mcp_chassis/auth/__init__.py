"""Who is calling: credentials, the verifiers that judge them, and the principal they stand for."""
