"""What a prediction may be expected to be worth, from what is known without running the network."""
