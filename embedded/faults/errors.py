"""What the injector says no to."""

from embedded.errors import EmbeddedError


class Refused(EmbeddedError):
    """A fault that is not done, with the reason and what to do instead."""
