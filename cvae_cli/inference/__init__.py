"""A loaded model at work on a device."""
