"""From what people say of decisions to what the gateway knows: label, verdict, reflection, proposal, trial, promotion.

Nothing here edits what acts. A label becomes part of a case; a case with a verdict becomes a proposal; a proposal passes its
trial, is approved by a person who did not make it, is watched in the shadow and on a share of the traffic, and only then acts.
"""
