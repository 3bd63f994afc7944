"""The web console: files that the gateway serves itself, and sign-in with a gateway key. All else it does is ``/admin/v1``."""
