"""How a command ends that cannot do what it was asked for."""


class Misused(Exception):  # noqa: N818
    """The command was called in a way that makes no sense: exit code 2."""


class Failed(Exception):  # noqa: N818
    """The command could not do its work: exit code 1."""
