"""The error that a person made, as opposed to one of ours."""


class BadInput(ValueError):
    """What was given cannot be used; the message is one line that says what, why and the way out."""
