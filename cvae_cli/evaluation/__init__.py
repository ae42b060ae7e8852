"""Measuring a model on test images."""
