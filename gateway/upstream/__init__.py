"""The HTTP client towards the providers: strict HTTP/1.1 over pooled connections, with every fault an error of its own kind."""
