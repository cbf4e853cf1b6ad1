"""Pictures, in one style. Needs the extra `viz`."""
