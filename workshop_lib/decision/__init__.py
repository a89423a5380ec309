"""From limits and weights to a choice that is written down, and to a router that sends tasks to models."""
