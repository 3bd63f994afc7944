"""The network around the detectors: wire formats, proxy, policy, state, control plane."""

import os

# Nothing that happens to be installed beside the gateway takes part in reading its configuration, or is looked for.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
