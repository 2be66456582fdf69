"""The application's extensions: made once here, bound to an application by `create_app`."""

from flask_login import LoginManager
from flask_principal import Principal
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase

from wsgi_usercache import UserCache


class Base(DeclarativeBase):
    """What every mapped class of the application starts from."""


db = SQLAlchemy(model_class=Base)
login_manager = LoginManager()
principals = Principal()
user_cache = UserCache()
