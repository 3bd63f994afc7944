"""From a message to what is done about it: judged by the detectors, by other replicas, and by the policy."""
