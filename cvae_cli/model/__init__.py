"""The conditional variational autoencoder: torch only, no files but its own weights."""
