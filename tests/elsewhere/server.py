"""The application under waitress, on the socket whose descriptor is the first argument."""

import socket
import sys

import waitress

from .app import create_app

if __name__ == "__main__":
    listener = socket.socket(fileno=int(sys.argv[1]))
    waitress.serve(create_app(), sockets=[listener], threads=2)
