"""Realtime sessions: both directions of a WebSocket screened, event by event and turn by turn."""
