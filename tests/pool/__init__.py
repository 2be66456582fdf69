"""What does it cost a small pool of connections that many are asking at once? Asked of a real
server on a real database.

`app` is what is served and `server` starts it, `crowd` are those who ask, and `connections` says
how many there may be and what the database sees of them meanwhile.
"""
