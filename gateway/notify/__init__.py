"""Notifications without an Alertmanager, for small set-ups: what is wrong, told once, to those who should know."""
