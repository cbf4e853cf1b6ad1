"""A classification head in closed form: model, labelled images → where the head is → what it sees → regression → written."""
