"""Replicas that agree: every gateway of a cluster comes to hold the same entries of the pattern store.

Pure cores, from below: `frames` (what travels), `ledger` (what is held, and digests of it), `membership` (who there is),
`receipts` (who holds a change), `link` (the state of one connection), `gossip` (what members say of themselves, passed on),
`neighbours` (whom to connect to) and `node` (all of them together). Shells around them: `certificates`, `quic`, `tcp`,
`service`.
"""
