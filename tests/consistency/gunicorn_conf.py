"""The example as a user copies it, and what a test sets otherwise."""

import json
import os
from pathlib import Path
from runpy import run_path

globals().update(run_path(str(Path(__file__).parents[2] / "examples" / "gunicorn.conf.py")))
control_socket_disable = True  # nothing of this server outside its own folder
loglevel = "warning"
graceful_timeout = 10
globals().update(json.loads(os.environ["GUNICORN_SETTINGS"]))
