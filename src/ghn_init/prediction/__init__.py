"""What is predicted for a model: which parameters, their tensors, what is done to them, the report, the writing."""
