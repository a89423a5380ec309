"""From limits and weights to a choice of a model, and from a task to the model that does it."""
