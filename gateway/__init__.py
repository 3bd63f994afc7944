"""The network around the detectors: wire formats, proxy, policy, state, control plane."""
