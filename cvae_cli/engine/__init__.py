"""The jobs of cvae: plain functions that report outcomes and never print."""
