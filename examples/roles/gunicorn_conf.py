"""How the demo's gunicorn runs; the driver adds the socket."""

worker_class = "gthread"
workers = 1
threads = 8
keepalive = 60  # seconds; a browser's connection outlives the pauses between its clicks
control_socket_disable = True  # nothing of this server outside its own folder
loglevel = "warning"
