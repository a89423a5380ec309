"""Asking models by a plan, together, in a race, or only to see that they answer."""
