"""The wire formats of the providers. `routes` finds the one that a request's path names; `base` says what one
is."""
