"""Where hypernetworks come from and where they are kept: bundled, published by others, a folder, a file, the hub."""
