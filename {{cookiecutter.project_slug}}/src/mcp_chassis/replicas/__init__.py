"""What the replicas of a server share through Redis or Valkey. Nothing here runs unless `REDIS_URL` is set."""
