"""What is wrong with a node's certificates. Apart from what reads them, for which much must be loaded."""

from __future__ import annotations


class CertificateFault(ValueError):  # noqa: N818 - reads as the condition that it is
    """A certificate or key that cannot be used. The message names the file and what is wanted."""
