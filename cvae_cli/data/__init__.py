"""Real images with labels: data sets known by name, and class folders of the user's own."""
