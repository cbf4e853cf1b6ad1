"""How good predicted parameters are."""
