"""Models trained briefly on the user's data and judged on held-out images of them: what starts and networks are chosen by."""
