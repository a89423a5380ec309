"""Session 3: open-source models in Foundry Local."""
