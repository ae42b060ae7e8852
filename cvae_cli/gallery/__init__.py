"""Pages over a run: static HTML that is opened from a disk, without a server or a network."""
