"""What leaves a text before it goes on, and how it comes back: stand-ins, the vault that knows them, addresses."""
