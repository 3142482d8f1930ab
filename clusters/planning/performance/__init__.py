"""How fast a model is on GPUs, and what it takes of their memory."""
