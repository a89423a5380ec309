"""Where models come from: the shipped ones, the public catalog, an endpoint, and one's own beside them."""
