"""A Celery worker's side of the application, as Flask's documentation has it."""

from __future__ import annotations

from typing import Any

from celery import Celery, Task

from .app import User, create_app, db
from .ways import change

flask_app = create_app()


class FlaskTask(Task):  # type: ignore[misc]  # Celery ships no types
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with flask_app.app_context():
            return self.run(*args, **kwargs)


celery = Celery(flask_app.name, task_cls=FlaskTask)
celery.config_from_object(flask_app.config["CELERY"])


@celery.task(name="change")  # type: ignore[untyped-decorator]  # the same
def change_task(way: str, user_id: int, name: str) -> None:
    change(way, db.session, User, user_id, name)
