"""Does a request ever see less than what was changed before it began? Asked of real servers.

`app` is what they serve and `users` what it keeps, `server` starts them, `script` is a writer that
serves nobody, `traffic` reads and writes through all of them at once, `checker` judges what came
back.
"""
