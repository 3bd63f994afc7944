"""What is remembered of a request, and how it reaches the state."""
