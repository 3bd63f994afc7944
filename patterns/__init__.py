"""What is known about threats: taxonomy, schema, packs and the store. Imports nothing else of the project."""
