"""The data plane: an OpenAI-compatible gateway without Django and without a database."""
