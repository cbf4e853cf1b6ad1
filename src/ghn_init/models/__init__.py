"""A user's model made ready: built by name, its stem fitted to small images, its batch norms to data."""
