"""Proxies to compare with, as a careful team would write or configure them."""
