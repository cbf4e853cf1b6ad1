"""Which of several networks is best for the user's data, before any of them is trained to the end."""
