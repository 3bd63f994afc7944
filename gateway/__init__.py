"""The network around the detectors: wire formats, proxy, policy, state, control plane."""

import os
from typing import Final

__version__: Final = "0.1.0"
"""As `pyproject.toml` has it from here: to ask the installation reads and parses its whole description each time."""

# Nothing that happens to be installed beside the gateway takes part in reading its configuration, or is looked for.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
