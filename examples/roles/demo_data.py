"""The people, roles and abilities a new database starts with."""

from sqlalchemy import select

from .extensions import db
from .models import Ability, Role, User

ABILITIES = {
    "admin": ("manage", "operate", "publish", "read", "write"),
    "editor": ("publish", "read", "write"),
    "astronomer": ("explore", "read"),
}

# username, name, password, roles
PEOPLE = (
    ("ada", "Ada Lovelace", "engine", ("admin",)),
    ("grace", "Grace Hopper", "compiler", ("editor",)),
    ("linus", "Linus Pauling", "bonds", ()),
)


def seed() -> bool:
    """Create tables and demo data where they are missing; True if people were added."""
    db.create_all()
    if db.session.scalar(select(User.id).limit(1)) is not None:
        return False
    abilities = {
        name: Ability(name=name) for name in sorted({a for row in ABILITIES.values() for a in row})
    }
    roles = {
        name: Role(name=name, abilities=[abilities[ability] for ability in held])
        for name, held in ABILITIES.items()
    }
    db.session.add_all(roles.values())
    for username, name, password, held in PEOPLE:
        user = User(username=username, name=name, roles=[roles[role] for role in held])
        user.set_password(password)
        db.session.add(user)
    db.session.commit()
    return True


def log_ins() -> str:
    """Return one line per person: who can log in, with which password and roles."""
    return "\n".join(
        f"  {username:<6} {password:<9} {', '.join(roles) or 'no role'}"
        for username, _, password, roles in PEOPLE
    )
