"""Training data: batches, groups, weights and checks."""
