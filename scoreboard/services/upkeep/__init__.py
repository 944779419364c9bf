"""Looking after the service: health, proofs, retention, seeds."""
