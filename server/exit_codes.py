"""How the server's commands end."""

EXIT_OK = 0
EXIT_CANNOT_SERVE = 1  # workers keep dying; something outside should restart or replace this server
EXIT_BAD_CONFIG = 2
EXIT_CANNOT_LISTEN = 3  # the port is taken
