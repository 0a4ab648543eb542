"""Training recipes: how a network is trained, naturally or so that its explanations are stable."""
