"""What a hypernetwork is trained for."""
