"""Models of one's own: folders that the runtime can serve, adapters for everything else, and the list of both."""
