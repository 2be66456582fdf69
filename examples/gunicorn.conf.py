"""gunicorn for an application with the user cache.

    gunicorn --config gunicorn.conf.py 'app:create_app()'

Nothing here is for the cache's sake. Workers meet in a file in the host's memory, which each opens
at its first use, so there is no hook to write and no order to keep. Celery, cron jobs and
`flask shell` of the same user meet them there too.
"""

bind = "127.0.0.1:8000"
workers = 4

# Any class will do: sync, gthread, gevent.
worker_class = "gthread"
threads = 4

# With or without. Making the application opens, starts and locks nothing that a fork would copy;
# see that yours asks its database nothing at import either.
preload_app = True

# A worker may be replaced, reloaded or killed at any time: a new one needs no replay, and the
# changes of one that died while committing are settled by the others.
max_requests = 10_000
max_requests_jitter = 1_000

# Workers in several containers of one host meet if USERCACHE_STATE_FILE is on a volume they share.
