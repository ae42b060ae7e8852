"""The conditional variational autoencoder, and its weights on disk."""
