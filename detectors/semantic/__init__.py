"""Judgement by meaning: a cheap front stage, an encoder with one head per origin, and an index of exemplars."""
