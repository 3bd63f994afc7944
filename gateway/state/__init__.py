"""What outlives a request: keys, decisions, kept texts and small settings, in SQLite or in Redis behind one
interface."""
