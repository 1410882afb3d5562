"""What happened: Docker-shaped events per tenant (log), and the hosts' facts coming in (ingest, follower)."""
