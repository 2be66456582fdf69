"""What can be changed, by name. Tests may know it without having the application made."""

USERS = (1, 2)
SIDES = ("user_side", "role_side")  # of a user's roles: which end they are granted from
ASPECTS = ("name", "level", *SIDES)
