"""The one exception of this package."""


class AdaptationError(ValueError):
    """An adaptation was asked for that cannot be had; the message says what to do.

    The network in question is left as it was.
    """
