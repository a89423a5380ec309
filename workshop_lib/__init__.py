"""Choose a small language model with numbers that can be defended."""

__version__ = "0.1.0"
