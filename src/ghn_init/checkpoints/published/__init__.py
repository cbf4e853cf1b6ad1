"""Files of the published hypernetworks: pickles, read without running anything that they carry."""
