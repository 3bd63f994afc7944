"""The caller's side: processes, sockets, connections, calls and their answers."""
