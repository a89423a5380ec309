"""Where models come from and how they are served: Foundry Local, an endpoint, one child process per model."""
