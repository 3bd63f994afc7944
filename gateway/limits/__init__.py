"""How much a tenant or a key may do, and how much it did."""
