"""The HTTP client towards the providers: strict HTTP/1.1 over pooled connections, each fault its own error."""
