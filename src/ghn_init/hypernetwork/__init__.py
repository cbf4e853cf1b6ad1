"""The graph hypernetwork: node features → graph network → decoders."""
