"""Text in, findings out: canonicalise, match, judge. Imports `patterns` and nothing of the gateway."""
