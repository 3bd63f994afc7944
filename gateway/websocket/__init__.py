"""WebSockets (RFC 6455) of callers and to upstreams: the one door to wsproto."""
