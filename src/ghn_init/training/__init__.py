"""Meta-training: random architectures × images → a hypernetwork."""
