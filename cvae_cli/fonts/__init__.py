"""The font of captions that the one in Pillow cannot show: DejaVu Sans (licence beside it)."""
