"""Models of one's own: which are registered, what a folder holds, an adapter and its server."""
