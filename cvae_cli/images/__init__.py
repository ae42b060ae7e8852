"""Image files to uint8 arrays and back; the only place that knows Pillow."""
