"""Two replicas as they are deployed: real processes, Redis, and nginx with TLS in front."""
